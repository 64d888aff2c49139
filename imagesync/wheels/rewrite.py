"""Wheels that pip installs and uv refuses, rewritten so that uv installs them.

uv reads an archive from its start to its end and trusts nothing that contradicts itself, pip goes by the
directory at the end. A rewritten wheel has the files that pip would install, and a RECORD of them.
"""

from __future__ import annotations

import configparser
import csv
import io
import mmap
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.core.archive_members import ZIP_DAMAGE
from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.digests import file_hexdigest
from imagesync.core.scratch import scratch_folder
from imagesync.core.worker_pool import WorkerPool
from imagesync.errors import WheelError
from imagesync.lock.lock import Target
from imagesync.store.layout import WHEEL_CHECKS
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.repack import file_digest, write_wheel

if TYPE_CHECKING:
    from imagesync.core.progress import Progress

_FORMAT: Final = 1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_END_SIGNATURE = b"PK\x05\x06"
_DATA_DESCRIPTOR = 0x08  # the flag of a member whose sizes follow its content
_NO_DESCRIPTOR = frozenset({0})
_DESCRIPTOR_SIZES = frozenset({12, 16, 20, 24})
_END_SIZE = 22
_COLUMNS = 3  # of RECORD


@dataclass(frozen=True)
class _Header:
    """The header of a member before its content, and the offset of that content."""

    flags: int
    method: int
    crc: int
    name: bytes
    content: int


def installable(
    wheels: Sequence[StoredFile], *, target: Target, store: Store, uv: str, progress: Progress
) -> tuple[StoredFile, ...]:
    """Return *wheels* in their order, with those that *uv* refuses rewritten; a line names each of these.

    Parameters
    ----------
    wheels
        The wheels of the image.
    target
        The platform and the interpreter of the image.
    store
        Keeps rewritten wheels.
    uv
        The path of the executable.
    progress
        Names rewritten wheels.

    Raises
    ------
    WheelError
        A wheel is damaged.
    """
    with WorkerPool(thread_name_prefix="wheel-check") as pool:
        return tuple(pool.map(lambda wheel: _installable(wheel, target, store, uv, progress), wheels))


def _installable(wheel: StoredFile, target: Target, store: Store, uv: str, progress: Progress) -> StoredFile:
    entry = cache_path(store.root / WHEEL_CHECKS, wheel.digest)
    key = [_FORMAT, wheel.filename]
    known = read_cache(entry, key=key)
    if isinstance(known, dict):
        if not known.get("rewritten"):
            return wheel
        if (stored := store.open(known["rewritten"], filename=wheel.filename)) is not None:
            _report(wheel, known["reason"], progress)
            return stored
    rewritten, reason = None, ""
    if is_odd(wheel.path):
        with scratch_folder("wheel") as folder:
            reason = _refusal(wheel.path, wheel, target, uv, folder / "refused")
            if reason:
                made = rewrite(wheel, folder)
                if not _refusal(made, wheel, target, uv, folder / "rewritten"):
                    rewritten = store.add_file(made)
    write_cache(entry, {"rewritten": rewritten.digest if rewritten else "", "reason": reason}, key=key)
    if rewritten is None:
        return wheel  # if uv refuses it all the same, the build says why
    _report(wheel, reason, progress)
    return rewritten


def _report(wheel: StoredFile, reason: str, progress: Progress) -> None:
    progress.line(f"{wheel.filename}: rewritten with the same files, because uv refuses it: {reason}")


def is_odd(wheel: Path) -> bool:
    """Return True if *uv* may refuse *wheel*.

    Raises
    ------
    WheelError
        It is no zip archive.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            wheel.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _has_odd_layout(archive, data) or _has_odd_metadata(archive)
    except ZIP_DAMAGE as error:
        raise WheelError(
            f"{wheel.name} is damaged: {error}.", hint="Remove it from the store: imagesync cache prune."
        ) from error


def _has_odd_layout(archive: zipfile.ZipFile, data: mmap.mmap) -> bool:
    """Return True if a reader from start to end doesn't find what the directory at the end says."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    has_duplicates = len({member.filename for member in members}) != len(members)
    if has_duplicates or any(member.compress_type not in _METHODS for member in members):
        return True
    if len(data) - data.rfind(_END_SIGNATURE) != _END_SIZE + len(archive.comment):
        return True
    end, sizes = 0, _NO_DESCRIPTOR
    for member in members:
        header = _header(data, member.header_offset)
        if member.header_offset - end not in sizes or header.name != _raw_name(member):
            return True
        if header.flags & _DATA_DESCRIPTOR:
            sizes = _DESCRIPTOR_SIZES
            if header.method == zipfile.ZIP_STORED:
                return True
        else:
            sizes = _NO_DESCRIPTOR
            if header.crc != member.CRC:
                return True
        end = header.content + member.compress_size
    return archive.start_dir - end not in sizes


def _header(data: mmap.mmap, offset: int) -> _Header:
    fields = _LOCAL_HEADER.unpack_from(data, offset)
    signature, _, flags, method, _, _, crc, _, _, name, extra = fields
    if signature != _LOCAL_SIGNATURE:
        raise ValueError(f"no member at {offset}")
    start = offset + _LOCAL_HEADER.size
    return _Header(flags, method, crc, data[start : start + name], start + name + extra)


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    return member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")


def _has_odd_metadata(archive: zipfile.ZipFile) -> bool:
    for name in archive.namelist():
        folder, _, file = name.partition("/")
        if not folder.endswith(".dist-info"):
            continue
        if file == "WHEEL" and b"Wheel-Version:" not in archive.read(name):
            return True
        if file == "RECORD" and not _is_plain_record(archive.read(name)):
            return True
        if file == "entry_points.txt" and _entry_points(archive.read(name)) is not None:
            return True
    return False


def _is_plain_record(content: bytes) -> bool:
    rows = csv.reader(io.StringIO(content.decode("utf-8", "replace")))
    try:
        return all(len(row) in (0, _COLUMNS) for row in rows)
    except csv.Error:
        return False  # such as a carriage return within a line


def _entry_points(content: bytes) -> bytes | None:
    """Return ``entry_points.txt`` as pip reads it; ``None`` if all readers agree about *content*."""
    text = content.decode("utf-8", "replace")
    try:
        configparser.ConfigParser(delimiters=("=",), interpolation=None).read_string(text)
    except configparser.Error:
        lenient = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        lenient.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            lenient.read_string(text)
            output = io.StringIO()
            lenient.write(output)
        except configparser.Error:
            return b"\n"  # which pip takes for none
        return output.getvalue().encode()
    return None


def _refusal(path: Path, wheel: StoredFile, target: Target, uv: str, folder: Path) -> str:
    """Return uv's own words about the wheel in *path*; empty if it installs it."""
    from packaging.utils import parse_wheel_filename

    name, version = parse_wheel_filename(wheel.filename)[:2]
    links = folder / "links"
    links.mkdir(parents=True)
    shutil.copyfile(path, links / wheel.filename)
    digest = wheel.digest if path == wheel.path else f"sha256:{file_hexdigest(path)}"
    (folder / "requirements.txt").write_text(f"{name}=={version} --hash={digest}\n", encoding="utf-8")
    command = [uv, "pip", "install", "--no-config", "--no-deps", "--no-index", "--find-links", str(links)]
    command += ["--require-hashes", "--cache-dir", str(folder / "cache"), "--target", str(folder / "target")]
    command += ["--python-version", target.minor, "--quiet"]
    command += ["--python-platform", f"{target.platform.machine}-manylinux_2_40"]
    command += ["--no-python-downloads", "--requirements", str(folder / "requirements.txt")]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, encoding="utf-8"
    )
    if done.returncode == 0:
        return ""
    lines = [" ".join(line.split()).removeprefix("cause: ") for line in done.stderr.splitlines()]
    return next((line.rstrip(".") for line in reversed(lines) if line), "no reason given")


def rewrite(wheel: StoredFile, into: Path) -> Path:
    """Return a wheel with the files of *wheel* that pip would install, in the folder *into*.

    Raises
    ------
    WheelError
        A file in *wheel* is damaged.
    """
    made = into / wheel.filename
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            record = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
            write_wheel(made, _members(archive, record), record=record)
    except (*ZIP_DAMAGE, StopIteration) as error:
        raise WheelError(
            f"{wheel.filename} is damaged: {error}.", hint="Get another file of this version from the index."
        ) from error
    return made


def _members(archive: zipfile.ZipFile, record: str) -> Iterator[tuple[str, bytes, bool, str]]:
    folder = record.rpartition("/")[0]
    # Of equal names the last is the one that pip installs.
    for name, member in archive.NameToInfo.items():
        if member.is_dir() or name == record:
            continue
        content = archive.read(member)
        if name == f"{folder}/entry_points.txt":
            content = _entry_points(content) or content
        elif name == f"{folder}/WHEEL":
            content = _wheel_file(content)
        yield name, content, bool(member.external_attr >> 16 & 0o111), file_digest(content)


def _wheel_file(content: bytes) -> bytes:
    """Return WHEEL with its keys as the specification writes them."""
    known = {"wheel-version": "Wheel-Version", "root-is-purelib": "Root-Is-Purelib", "tag": "Tag"}
    lines = []
    for line in content.decode("utf-8", "replace").splitlines():
        key, colon, value = line.partition(":")
        lines.append(f"{known.get(key.strip().lower(), key)}{colon}{value}")
    return ("\n".join(lines) + "\n").encode()
