"""Folders for work under way: nobody else's, and gone once nobody uses them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from imagesync.core.scratch import scratch_folder

WAITING = """
import sys
from imagesync.core.scratch import scratch_folder
with scratch_folder("test") as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    (folder / "deep").chmod(0o500)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a temporary folder of this test's own, for its children too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def start() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_folder_of_a_killed_process_is_removed_by_the_next_one(temporary: Path) -> None:
    process, left = start()
    process.kill()
    process.communicate()
    assert (left / "deep" / "file").is_file()
    with scratch_folder("test") as folder:
        assert not left.exists()
        assert folder.parent == left.parent
        assert temporary.resolve() in folder.parents
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(left.parent.iterdir()) == []


def test_folder_that_a_program_made_again_after_its_process_was_killed_is_removed() -> None:
    with scratch_folder("test") as folder:
        parent = folder.parent
    for name in (folder.name, "demo.kept"):
        (parent / name).mkdir()
        (parent / name / "written").write_text("late")
    with scratch_folder("test"):
        assert not folder.exists()
    assert [path.name for path in parent.iterdir()] == ["demo.kept"]


def test_folder_in_use_stays() -> None:
    process, used = start()
    with scratch_folder("test"):
        assert (used / "deep" / "file").is_file()
    process.communicate()
    assert not used.exists()


def test_folder_of_somebody_else_in_its_place_is_not_used(temporary: Path) -> None:
    with scratch_folder("test") as folder:
        parent = folder.parent
    parent.rmdir()
    parent.symlink_to(temporary)
    with scratch_folder("test") as folder:
        assert folder.parent == temporary.resolve()
        assert folder.name.startswith("imagesync-test-")
