"""A temporary folder without room ends a command with an error that says where room is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment
from tests.hostile.test_interrupts import INFO, MINOR, PYPROJECT

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root to mount a small disk"
)
BACKEND = "def build_wheel(folder, config_settings=None, metadata_directory=None): raise OSError"


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={request.param}"]
    subprocess.run(["mount", *options, "imagesync-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def environment(tmp_path: Path) -> LocalEnvironment:
    """Return an environment with an editable package, of which a wheel is to be made."""
    prefix, project = tmp_path / "env", tmp_path / "project"
    site_packages = prefix / "lib" / f"python{MINOR}" / "site-packages"
    info = site_packages / "slow-1.0.dist-info"
    for folder in (info, prefix / "bin", project):
        folder.mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    home = Path(sys.base_prefix) / "bin"
    (prefix / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\nversion = {MINOR}\n"
    )
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "backend.py").write_text(BACKEND)
    (info / "METADATA").write_text(INFO)
    (info / "RECORD").write_text("slow-1.0.dist-info/METADATA,,\n")
    url = f'{{"url": "{project.as_uri()}", "dir_info": {{"editable": true}}}}'
    (info / "direct_url.json").write_text(url)
    return LocalEnvironment(prefix)


@pytest.mark.parametrize("small_disk", ["4k", "32k"], indirect=True)
def test_full_temporary_folder_is_named_and_no_index_is_blamed(
    cli: CommandLine, environment: LocalEnvironment, small_disk: Path, tried: Callable[[str], None]
) -> None:
    target = ("--target-python", f"{MINOR}.0", "--target-glibc", "2.36", "--base", "debian:bookworm-slim")
    here = cli.with_environ(DOCKER_HOST="tcp://127.0.0.1:1", IMAGESYNC_PROFILE="none", TMPDIR=small_disk)
    # A process of its own, which asks anew where temporary files go.
    process = here.start("lock", "--python", environment.python, "-o", "pylock.toml", *target)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 1, stderr
    lines = stderr.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1, stderr
    assert "No space left on device" in stderr
    (hint,) = [line for line in lines if line.startswith("hint: ")]
    assert str(small_disk) in hint or "temporary folder" in hint, hint
    assert "Traceback" not in stderr
    tried("temporary folder: full")
