"""JSON that is kept until it gets lost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from imagesync.core.cache_file import cache_path, read_cache, write_cache


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return cache_path(tmp_path / "cache" / "trees", "/home/me/project", 1)


def test_entry_is_read_with_its_key(path: Path) -> None:
    write_cache(path, {"a": [1, None]}, key=("2.0", ["x"]))
    assert read_cache(path, key=["2.0", ["x"]]) == {"a": [1, None]}
    assert read_cache(path, key=["2.1", ["x"]]) is None
    assert [*path.parent.iterdir()] == [path]


def test_absent_entry_is_none_and_makes_no_folder(path: Path) -> None:
    assert read_cache(path, key=1) is None
    assert not path.parent.exists()


@pytest.mark.parametrize("length", [0, 1, 10, -1])
def test_truncated_entry_is_ignored(path: Path, length: int) -> None:
    write_cache(path, "content", key=1)
    path.write_text(path.read_text()[:length])
    assert read_cache(path, key=1) is None


@pytest.mark.parametrize(
    "text", ["[]", "null", "1", '{"key": 1}', '{"key": 1, "time": "now", "content": 2}', "\x00"]
)
def test_foreign_file_is_ignored(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert read_cache(path, key=1) is None


def test_old_entry_is_ignored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(path, "content", key=1)
    written = time.time()
    for later, expected in ((50, "content"), (70, None), (-70, None)):
        monkeypatch.setattr(time, "time", lambda later=later: written + later)
        assert read_cache(path, key=1, max_age=60) == expected


def test_folders_are_private_to_the_user(path: Path) -> None:
    write_cache(path, "content", key=1)
    assert {each.stat().st_mode & 0o077 for each in (path, path.parent, path.parents[1])} == {0}


def test_cache_that_cannot_be_written_fails_nothing(path: Path) -> None:
    path.parents[1].write_text("a file in place of the folder")
    write_cache(path, "content", key=1)
    assert read_cache(path, key=1) is None


def test_full_disk_keeps_the_old_entry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(path, "old", key=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    write_cache(path, "new", key=1)
    monkeypatch.undo()
    assert read_cache(path, key=1) == "old"
    assert [*path.parent.iterdir()] == [path]


def test_names_that_are_no_unicode_can_be_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    path = cache_path(tmp_path / "trees", name)
    write_cache(path, name, key=1)
    assert read_cache(path, key=1) == name
