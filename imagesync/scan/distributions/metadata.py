# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH118, PTH119
"""The metadata files of a distribution: the headers of METADATA, PKG-INFO and WHEEL, and RECORD.

``email.parser`` reads them too, but importing it takes longer than reading all of an
environment's metadata, and it parses the description that nobody asked for.
"""

from __future__ import annotations

import base64
import binascii
import csv
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from imagesync.core.files import read_bytes
from imagesync.core.limits import HEADERS
from imagesync.scan.environment import Package

# What email.feedparser takes for the header block: it ends at an empty line, or at the first line
# that is neither a header nor the continuation of one.
_BLOCK = re.compile(rb"(?:(?:From |[!-9;-~]*:|[\t ])[^\r\n]*(?:\r\n|\r|\n|\Z))*")
_CHUNK = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Written by installers, and different on each machine.
_INSTALLER_FILES = frozenset(
    {
        *("INSTALLER", "REQUESTED", "RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json"),
        *("uv_cache.json", "uv_build.json"),
    }
)


@dataclass(frozen=True)
class Headers:
    """Some headers of a metadata file.

    Parameters
    ----------
    values
        Lower-case header name to its values, in the order of the file.
    utf8
        The whole block is valid UTF-8; otherwise invalid values were read as Latin-1.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    utf8: bool = True

    def first(self, name: str) -> str:
        """Return the first value of the header *name* (lower case), or the empty string."""
        return self.values.get(name, [""])[0]

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of the header *name* (lower case)."""
        return tuple(self.values.get(name, ()))


def read_headers(path: str, wanted: Collection[str]) -> Headers:
    """Return the *wanted* headers (lower case) of the file at *path*.

    Raises
    ------
    OSError
        The file can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(descriptor, _CHUNK)
        if len(data) == _CHUNK and b"\n" not in data[_end(data) :]:  # cut off within a header
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data += file.read(HEADERS - _CHUNK)
    finally:
        os.close(descriptor)
    return parse_headers(data, wanted)


def parse_headers(data: bytes, wanted: Collection[str]) -> Headers:
    r"""Return the *wanted* headers (lower case) of a metadata file's content.

    >>> parse_headers(b"Name: demo\nRequires-Dist: a;\n  extra == 'x'\n\ntext", ["requires-dist"]).values
    {'requires-dist': ["a; extra == 'x'"]}
    """
    if data.startswith(_BYTE_ORDER_MARK):
        data = data[len(_BYTE_ORDER_MARK) :]
    block = data[: _end(data)]
    keys = {name.encode("ascii"): name for name in wanted}
    found: dict[str, list[list[bytes]]] = {}
    current: list[bytes] | None = None
    for line in block.splitlines():
        if line[0] in b" \t":
            if current is not None:
                current.append(line)
            continue
        name, _, value = line.partition(b":")
        key = keys.get(name.lower())
        current = None
        if key is not None:
            current = [value]
            found.setdefault(key, []).append(current)
    values = {key: [_decode(b"\n".join(lines)) for lines in entries] for key, entries in found.items()}
    return Headers(values=values, utf8=_is_utf8(block))


def _end(data: bytes) -> int:
    match = _BLOCK.match(data)
    return match.end() if match else 0


def _decode(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return " ".join(text.split())


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class InstalledFile(NamedTuple):
    """One line of a RECORD.

    Parameters
    ----------
    path
        Relative to the folder on ``sys.path``, with ``/``; scripts and data may begin with ``../``.
    hash
        ``sha256=<urlsafe base64 without padding>``, or empty.
    """

    path: str
    hash: str

    @property
    def sha256(self) -> str | None:
        """Return the recorded sha256 in hexadecimal; ``None`` if RECORD has none that is valid."""
        return self.hexdigest("sha256")

    def hexdigest(self, algorithm: str) -> str | None:
        """Return the digest in hexadecimal; ``None`` if RECORD has none of *algorithm* that is valid."""
        name, _, value = self.hash.partition("=")
        if name != algorithm:
            return None
        try:
            return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
        except (binascii.Error, ValueError):
            return None


def installed_files(package: Package) -> tuple[InstalledFile, ...]:
    """Return the files in the RECORD of *package*, sorted, without bytecode and the installer's metadata."""
    location = Path(package.location).as_posix().rstrip("/") + "/"
    dist_info = os.path.basename(package.metadata_path)
    files = []
    for name, recorded, _ in read_record(package.metadata_path):
        path = name.removeprefix(location)
        if ".." in path:
            # What leads out of the folder must begin with ../
            path = os.path.normpath(path).replace(os.sep, "/")
        if path and not is_by_installer(path, dist_info):
            files.append(InstalledFile(path, recorded))
    return tuple(sorted(files))


def is_by_installer(path: str, dist_info: str) -> bool:
    """Return True if *path* is bytecode, or a file of the folder *dist_info* that installers write."""
    folder, _, name = path.rpartition("/")
    if name.endswith((".pyc", ".pyo")) or "__pycache__" in folder.split("/"):
        return True
    return folder == dist_info and name in _INSTALLER_FILES


def entry_point_scripts(metadata_path: str) -> frozenset[str]:
    """Return the names of the scripts that installers create from ``entry_points.txt``."""
    import configparser

    points = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    points.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        text = read_bytes(os.path.join(metadata_path, "entry_points.txt")).decode()
        points.read_string(text)
    except (OSError, UnicodeDecodeError, configparser.Error):
        return frozenset()
    sections = [section for section in ("console_scripts", "gui_scripts") if points.has_section(section)]
    return frozenset(name for section in sections for name in points.options(section))


def script_name(path: str) -> str:
    """Return the name of a script in ``bin`` or ``Scripts``, without the suffixes that Windows adds."""
    name = path.rpartition("/")[2]
    return name.removesuffix(".exe").removesuffix("-script.py").removesuffix("-script.pyw")


def read_record(metadata_path: str) -> Iterator[tuple[str, str, int | None]]:
    """Yield path, digest (``sha256=<base64>``, or empty) and size in bytes of each file listed.

    Paths are as they are written: relative to the parent of *metadata_path*, with ``/``.
    A RECORD that can't be read lists nothing, and a path that can't exist isn't listed.
    """
    try:
        text = read_bytes(os.path.join(metadata_path, "RECORD")).decode("utf-8", "surrogateescape")
        # CPython 3.10 reads no line with a null character, which no path has.
        rows = list(csv.reader(line for line in text.splitlines() if "\0" not in line))
    except (OSError, csv.Error):
        return
    for row in rows:
        if row and row[0]:
            digest = row[1] if len(row) > 1 else ""
            # No file has a size of 20 digits, and Python refuses to read one of thousands.
            size = int(row[2]) if len(row) > 2 and len(row[2]) < 20 and row[2].isdecimal() else None
            yield row[0].replace("\\", "/"), digest, size
