from __future__ import annotations

from pathlib import Path

import pytest

import imagesync
from tests.commands import CommandLine
from tests.conftest import MakeEnvironment


@pytest.mark.parametrize("reference", ["Bad Tag", "Upper:1", "name@sha256:" + "0" * 64, "a:b:c", ""])
def test_invalid_tag_is_refused_before_the_build(
    cli: CommandLine, environment: MakeEnvironment, reference: str
) -> None:
    # Without an engine: nothing has been started.
    at = cli.with_environ(VIRTUAL_ENV=environment().prefix, DOCKER_HOST="tcp://127.0.0.1:1")
    finished = at.run("build", "--tag", "good:1", "--tag", reference)
    assert finished.returncode == 2
    assert f"error: tag: {reference!r} can't be an image's name." in finished.stderr


def test_lock_file_of_the_settings_is_built_from_and_never_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("IMAGESYNC_LOCKED", str(tmp_path / "gone.lock"))
    with pytest.raises(imagesync.ImagesyncError, match=r"gone\.lock can't be read"):
        imagesync.build(quiet=True, cache_dir=tmp_path)
    watched = cli.with_environ(IMAGESYNC_LOCKED=str(tmp_path / "gone.lock")).run("build", "--watch")
    assert watched.returncode == 2
    assert "`locked` in the settings names a lock file" in watched.stderr


def test_selection_without_a_lock_file_is_refused(cli: CommandLine, environment: MakeEnvironment) -> None:
    finished = cli.with_environ(VIRTUAL_ENV=environment().prefix).run("build", "--group", "docs")
    assert finished.returncode == 2
    assert "choose from a file" in finished.stderr
