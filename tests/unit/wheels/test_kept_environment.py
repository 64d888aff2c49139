"""The environment of a build that another build of the package gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.wheels.kept_environment import KeptEnvironment, environment_state


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
