"""The environment of a build that another build of the package gets."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from imagesync.core.scratch import private_folder
from imagesync.wheels.build_requirements import FRESH
from imagesync.wheels.build_wheel import build_folder
from imagesync.wheels.kept_environment import KeptEnvironment, environment_state, kept_environment
from tests.commands import CommandLine


def made(folder: Path) -> tuple[Path, str]:
    environment = folder / "build" / "env"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to("/usr/bin/python3")
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return environment, environment_state(environment)


def test_environment_is_taken_once_by_the_key_that_it_was_kept_under(tmp_path: Path) -> None:
    kept = KeptEnvironment(tmp_path / "demo.kept")
    environment, state = made(tmp_path)
    kept.keep(environment, key="3.11 hatchling==1.0", state=state)
    assert not environment.exists()
    assert not kept.take("3.11 hatchling==2.0", environment)
    assert kept.take("3.11 hatchling==1.0", environment)
    assert environment_state(environment) == state
    assert not kept.take("3.11 hatchling==1.0", tmp_path / "other")


def test_environment_that_its_build_has_changed_is_not_kept(tmp_path: Path) -> None:
    kept = KeptEnvironment(tmp_path / "demo.kept")
    environment, state = made(tmp_path)
    (environment / "bin" / "left").write_text("")
    kept.keep(environment, key="key", state=state)
    assert not kept.take("key", tmp_path / "other")


@pytest.mark.parametrize("change", ["added", "edited", "removed", "link"])
def test_environment_that_was_changed_since_is_not_taken(tmp_path: Path, change: str) -> None:
    kept = KeptEnvironment(tmp_path / "demo.kept")
    environment, state = made(tmp_path)
    kept.keep(environment, key="key", state=state)
    inside = kept.folder / "env"
    if change == "added":
        (inside / "bin" / "pip").write_text("")
    elif change == "edited":
        (inside / "pyvenv.cfg").write_text("home = /usr/bin\nmore = 1\n")
    elif change == "removed":
        (inside / "pyvenv.cfg").unlink()
    else:
        (inside / "bin" / "python").unlink()
        (inside / "bin" / "python").symlink_to("/usr/local/bin/python3")
    assert not kept.take("key", environment)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's folder in a temporary folder of this test's own, for its children, too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = private_folder()
    assert folder is not None
    return folder


def keep(parent: Path, name: str, *, age: float = 0) -> KeptEnvironment:
    """Keep an environment of two entries, of which one is a file of 16 bytes, as a build has done."""
    environment, state = made(parent / name)
    kept = kept_environment(parent / name, name)
    assert kept is not None
    kept.keep(environment, key="key", state=state)
    used = time.time() - age
    os.utime(kept.folder / "state.json", (used, used))
    (parent / name / "build").rmdir()
    (parent / name).rmdir()
    return kept


def test_build_removes_what_was_kept_for_longer_than_versions_are_remembered(parent: Path) -> None:
    old, new = keep(parent, "old", age=FRESH + 60), keep(parent, "new", age=FRESH - 60)
    with build_folder("demo"):
        pass
    assert (old.folder.exists(), new.folder.exists()) == (False, True)
    assert list(parent.iterdir()) == [new.folder]


def test_cache_prune_removes_what_builds_have_kept_but_of_one_that_runs(
    parent: Path, cli: CommandLine
) -> None:
    here = cli.with_environ(TMPDIR=parent.parent)
    keep(parent, "one", age=2 * 86_400)
    other, built = keep(parent, "other"), keep(parent, "built")
    removed = here("cache", "prune", "--older-than", "1", "--format", "json").json()["build_environments"]
    assert removed["files"] == 2
    with build_folder("built"):
        lines = here("cache", "prune").stdout.splitlines()
    assert [line for line in lines if line.startswith("2 build environment files removed")]
    assert (other.folder.exists(), built.folder.exists()) == (False, True)
    assert list(parent.iterdir()) == [built.folder]
