# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH118, PTH119
"""The files that a distribution has installed: RECORD (PEP 376, PEP 627) and the scripts of entry points."""

from __future__ import annotations

import base64
import binascii
import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imagesync.core.files import read_bytes
from imagesync.scan.environment import Package

# Written by installers, and different on each machine.
_INSTALLER_FILES = frozenset(
    {
        *("INSTALLER", "REQUESTED", "RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json"),
        *("uv_cache.json", "uv_build.json"),
    }
)


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
        algorithm, _, value = self.hash.partition("=")
        if algorithm != "sha256":
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
            path = os.path.normpath(path)  # what leads out of the folder must begin with ../
        if not is_by_installer(path, dist_info):
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

    Paths are as they are written: relative to the folder that holds *metadata_path*, with ``/``.
    A RECORD that can't be read lists nothing, and a path that can't exist isn't listed.
    """
    try:
        text = read_bytes(os.path.join(metadata_path, "RECORD")).decode("utf-8", "surrogateescape")
        rows = list(csv.reader(text.splitlines()))
    except (OSError, csv.Error):
        return
    for row in rows:
        if row and row[0] and "\0" not in row[0]:
            digest = row[1] if len(row) > 1 else ""
            size = int(row[2]) if len(row) > 2 and row[2].isdecimal() else None
            yield row[0].replace("\\", "/"), digest, size
