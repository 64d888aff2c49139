"""Wheels that pip installs and uv refuses: rewritten, uv installs what pip installs of the original."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from uv import find_uv_bin

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import Severity, SilentProgress
from imagesync.errors import WheelError
from imagesync.lock.lock import Target
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.rewrite import installable, is_odd
from tests.archives import damaged_zip
from tests.indexes.wheels import make_wheel

TARGET = Target(LINUX_AMD64, ".".join(map(str, sys.version_info[:3])), (2, 36))
POINTS = b"[console_scripts]\nodd = odd:main\n"
FILES = {"odd.py": b"def main():\n    print('odd')\n" * 9, "odd-1.0.dist-info/entry_points.txt": POINTS}
FILENAME, PLAIN = make_wheel("odd", "1.0", files=FILES)
Change = Callable[[bytes], bytes]


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        if severity.is_shown(Severity.INFO):
            self.lines.append(severity.lead + text)


def written_anew(
    *,
    method: int = zipfile.ZIP_DEFLATED,
    streamed: bool = False,
    twice: bytes | None = None,
    edit: tuple[str, bytes, bytes] = ("", b"", b""),
) -> bytes:
    """Return the wheel with its modules compressed by *method*, or with an edited or a second member."""
    output = io.BytesIO()

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            return output.write(data)  # type: ignore[arg-type]

    with (
        zipfile.ZipFile(io.BytesIO(PLAIN)) as plain,
        zipfile.ZipFile(Pipe() if streamed else output, "w") as archive,
    ):
        for member in plain.infolist():
            content = plain.read(member)
            if member.filename.endswith(edit[0] or "\0"):
                content = content.replace(edit[1], edit[2], 1)
            info = zipfile.ZipInfo(member.filename)
            info.compress_type = method if member.filename.endswith(".py") else zipfile.ZIP_DEFLATED
            with archive.open(info, "w") as file:
                file.write(content)
        if twice is not None:
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("odd.py", twice)
    return output.getvalue()


def with_gap(wheel: bytes, junk: bytes = b"something") -> bytes:
    start, end = wheel.find(b"PK\x01\x02"), wheel.find(b"PK\x05\x06")
    tail = bytearray(wheel[end:])
    struct.pack_into("<I", tail, 16, start + len(junk))
    return wheel[:start] + junk + wheel[start:end] + bytes(tail)


def with_wrong_checksum(wheel: bytes) -> bytes:
    changed = bytearray(wheel)
    struct.pack_into("<I", changed, 14, 0)
    return bytes(changed)


ODD: dict[str, Callable[[], bytes]] = {
    "lzma": lambda: written_anew(method=zipfile.ZIP_LZMA),
    "bzip2": lambda: written_anew(method=zipfile.ZIP_BZIP2),
    "stored-stream": lambda: written_anew(method=zipfile.ZIP_STORED, streamed=True),
    "one-path-twice": lambda: written_anew(twice=b"def main():\n    print('last')\n"),
    "trailing-bytes": lambda: PLAIN + b"\n",
    "leading-bytes": lambda: b"#!/bin/sh\n" + PLAIN,
    "gap": lambda: with_gap(PLAIN),
    "checksums": lambda: with_wrong_checksum(PLAIN),
    "record-columns": lambda: written_anew(edit=("RECORD", b"\n", b",\n")),
    "record-carriage-return": lambda: written_anew(edit=("RECORD", b"\n", b"\r,\n")),
    "wheel-keys": lambda: written_anew(edit=("WHEEL", b"Wheel-Version", b"wheel-version")),
    "entry-point-twice": lambda: written_anew(edit=("points.txt", b"odd =", b"odd = odd:main\nodd =")),
    "no-section": lambda: written_anew(edit=("points.txt", b"[console_scripts]\n", b"")),
}


def stored(content: bytes, folder: Path) -> StoredFile:
    path = folder / "blob"
    path.write_bytes(content)
    return StoredFile(FILENAME, path, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def installed_files(command: list[str], wheel: StoredFile, folder: Path) -> dict[str, bytes]:
    """Return what *command* installs of *wheel*, without the installer's own files."""
    folder.mkdir()
    (folder / FILENAME).write_bytes(wheel.path.read_bytes())
    target = folder / "target"
    options = ["install", "-q", "--no-deps", "--no-index", "--target", str(target), str(folder / FILENAME)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    own = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "entry_points.txt", "WHEEL", ".lock")
    return {
        path.relative_to(target).as_posix(): b"" if path.parent.name == "bin" else path.read_bytes()
        for path in target.rglob("*")
        if path.is_file() and path.name not in own and path.suffix not in (".pyc", ".json")
    }


@pytest.mark.parametrize("case", sorted(ODD))
def test_refused_wheel_is_rewritten_with_what_pip_installs(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on CPython 3.11 and later; pip on 3.10 refuses odd entry points.
    monkeypatch.setenv("_PIP_USE_IMPORTLIB_METADATA", "1")
    wheel = stored(ODD[case](), tmp_path)
    progress, store = Lines(), Store(tmp_path / "store")
    (rewritten,) = installable([wheel], target=TARGET, store=store, uv=find_uv_bin(), progress=progress)
    (line,) = progress.lines
    assert line.startswith(f"{FILENAME}: rewritten with the same files, because uv refuses it: ")
    assert (rewritten.filename, rewritten.digest != wheel.digest) == (FILENAME, True)
    assert not is_odd(rewritten.path)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    uv = [find_uv_bin(), "pip", "--no-cache"]
    here = installed_files(pip, wheel, tmp_path / "pip")
    assert installed_files(uv, rewritten, tmp_path / "uv") == here
    assert "odd.py" in here
    # The second time nothing is looked at.
    wheel.path.write_bytes(b"")
    assert installable([wheel], target=TARGET, store=store, uv="", progress=progress) == (rewritten,)


@pytest.mark.parametrize("streamed", [False, True])
def test_wheel_that_uv_takes_stays_as_it_is(streamed: bool, tmp_path: Path) -> None:
    wheel = stored(written_anew(streamed=streamed), tmp_path)
    assert not is_odd(wheel.path)
    progress, store = Lines(), Store(tmp_path / "store")
    assert installable([wheel], target=TARGET, store=store, uv="", progress=progress) == (wheel,)
    assert progress.lines == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_wheel_is_named(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(PLAIN)) as plain:
        files = {name: plain.read(name) for name in plain.namelist()}
    wheel = stored(damaged_zip(files, method=method), tmp_path)
    store, uv = Store(tmp_path / "store"), find_uv_bin()
    with pytest.raises(WheelError, match="is damaged"):
        installable([wheel], target=TARGET, store=store, uv=uv, progress=SilentProgress())
