"""What is remembered of the local packages of a lock file."""

from __future__ import annotations

from pathlib import Path

from imagesync.core.platforms import PLATFORMS
from imagesync.lock.lock import Target
from imagesync.lock.lockfile.models import Selection
from imagesync.pipeline.lock_file_sources import sources_key


def test_sources_are_remembered_by_all_that_chooses_them(tmp_path: Path) -> None:
    path, digest = tmp_path / "uv.lock", "sha256:" + "0" * 64
    targets = [Target(platform, python, (2, 36)) for platform in PLATFORMS for python in ("3.11.2", "3.12.3")]
    keys = [sources_key(path, digest, None, target) for target in (*targets, *PLATFORMS)]
    keys += [sources_key(path, digest, Selection(groups=("docs",)), targets[0])]
    keys += [sources_key(tmp_path / "other.lock", digest, None, targets[0])]
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'a'\n")
    keys += [sources_key(path, digest, None, targets[0])]
    assert len(set(keys)) == len(keys)
    assert sources_key(path, digest, None, targets[0]) == keys[-1]
