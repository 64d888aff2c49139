"""Metadata of any size is read in a moment, or named as what can't be read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from imagesync.errors import UsageError
from imagesync.lock.lockfile.models import read_text
from imagesync.scan.distributions.metadata import read_headers


@pytest.mark.parametrize(
    "content",
    [
        b"Name: " + b"x" * (50 << 20),
        b"Name: demo\nDescription: " + b"x" * (50 << 20) + b"\n\n",
        b"Name: demo\n" + b" x\n" * (12 << 20),
        b"Name: demo\n" + b"Requires-Dist: a\n" * (3 << 20),
        b"From " * (10 << 20),
        b":" * (50 << 20),
    ],
    ids=["value", "description", "continuation", "many", "from", "colons"],
)
def test_header_of_any_size_is_read_in_seconds(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "METADATA"
    path.write_bytes(content)
    began = time.monotonic()
    read_headers(str(path), ["name", "requires-dist"])
    assert time.monotonic() - began < 10


def test_lock_file_of_any_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(UsageError, match="larger than 64 MB"):
        read_text(path)
