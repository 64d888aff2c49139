"""Metadata of any size is read in a moment, or named as what can't be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.errors import UsageError
from imagesync.lock.lockfile.models import read_text
from imagesync.scan.distributions.metadata import read_headers
from imagesync.scan.scan import scan


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


HEAD = b'{"name": "elder", "version": "1.0", "build": "py_0", "build_number": 0, "x": '


@pytest.mark.campaign
@pytest.mark.parametrize(
    "content",
    [
        lambda: HEAD + b"[" + b"0," * (100 << 20) + b"0]}",
        lambda: HEAD + b"[" + b"{}," * (66 << 20) + b"0]}",
        lambda: HEAD + b'"' + b"x" * (200 << 20) + b'"}',
        lambda: (
            b'{\n  "files": [\n'
            + b'    "lib/a.py",\n' * (12 << 20)
            + b'    "b"\n  ],\n  '
            + HEAD[1:]
            + b"0\n}"
        ),
    ],
    ids=["numbers", "objects", "text", "files"],
)
def test_prefix_record_of_200_mb_is_read_in_seconds_or_named(
    tmp_path: Path, tried: Callable[[str], None], content: Callable[[], bytes]
) -> None:
    (tmp_path / "pyvenv.cfg").write_text("version = 3.11.2\n")
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta" / "history").touch()
    (tmp_path / "conda-meta" / "elder-1.0-py_0.json").write_bytes(content())
    began = time.monotonic()
    found = scan(prefix=tmp_path, environ={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    tried("conda-meta: a file of 200 MB")
    assert time.monotonic() - began < 20
    assert any("elder" in finding.message for finding in found.findings) or found.conda


def test_lock_file_of_any_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(UsageError, match="larger than 64 MB"):
        read_text(path)
