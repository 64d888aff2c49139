"""The folder that a package is built in each time, whatever an earlier build left there."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock  # noqa: F401 - nobody may be unable to read where it is installed
import pytest

from imagesync.wheels.build_wheel import build_folder

NOBODY = 65534


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide the temporary folder of a user whom permissions bind, which root isn't."""
    is_root = sys.platform == "linux" and os.geteuid() == 0
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield folder
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        shutil.rmtree(folder)


def test_build_folder_has_the_same_path_and_is_empty(temporary: Path) -> None:
    with build_folder("demo") as folder:
        (folder / "left").write_text("")
    with build_folder("demo") as again:
        assert (again, list(again.iterdir())) == (folder, [])
    assert not folder.exists()


def test_read_only_folders_of_a_build_are_removed(temporary: Path) -> None:
    with build_folder("demo") as folder:
        inner = folder / "go" / "mod" / "cache"
        inner.mkdir(parents=True)
        (inner / "module").write_text("")
        for place in (inner, inner.parent, inner.parent.parent, folder):
            place.chmod(0o500)
    assert not folder.exists()


def test_read_only_folder_of_a_killed_build_is_removed(temporary: Path) -> None:
    with build_folder("demo") as folder:
        pass
    (folder / "cache").mkdir(parents=True)
    (folder / "cache" / "module").write_text("")
    (folder / "cache").chmod(0)
    with build_folder("demo") as again:
        assert (again, list(again.iterdir())) == (folder, [])


def test_permissions_behind_a_link_stay(temporary: Path) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir(mode=0o750)
    with build_folder("demo") as folder:
        locked = folder / "locked"
        locked.mkdir()
        (locked / "link").symlink_to(elsewhere)
        locked.chmod(0o500)
    assert not folder.exists()
    assert elsewhere.stat().st_mode & 0o777 == 0o750


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root")
def test_what_cannot_be_removed_is_left_and_another_folder_used(temporary: Path) -> None:
    with build_folder("demo") as folder:
        pass
    os.setresuid(0, 0, 0)
    (folder / "of-root").mkdir(parents=True)
    (folder / "of-root" / "file").write_text("")
    os.setresuid(NOBODY, NOBODY, 0)
    with build_folder("demo") as other:
        assert (other != folder, list(other.iterdir())) == (True, [])
    assert not other.exists()
