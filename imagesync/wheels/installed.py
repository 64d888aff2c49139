"""Files of installed distributions by RECORD (PEP 376), and those that were edited since."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from imagesync.scan.distributions.record import read_record
from imagesync.scan.environment import Package
from imagesync.wheels.sources.stat_cache import file_digests

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
        except ValueError:
            return None


def has_record(package: Package) -> bool:
    """Return True if *package* has a RECORD; the file lists of egg-info folders have no hashes."""
    return bool(package.metadata_path) and Path(package.metadata_path, "RECORD").is_file()


def installed_files(package: Package) -> tuple[InstalledFile, ...]:
    """Return the files in the RECORD of *package*, sorted, without bytecode and the installer's metadata."""
    location = Path(package.location).as_posix().rstrip("/") + "/"
    dist_info = Path(package.metadata_path).name
    files = []
    for name, recorded, _ in read_record(package.metadata_path):
        path = name.removeprefix(location)
        if ".." in path:
            path = os.path.normpath(path)  # what leads out of the folder must begin with ../
        if not _is_by_installer(PurePosixPath(path), dist_info):
            files.append(InstalledFile(path, recorded))
    return tuple(sorted(files, key=lambda file: file.path))


def record_digest(package: Package | None) -> str:
    """Return ``sha256:<hex>`` over the entries of RECORD; empty without a RECORD.

    Scripts are omitted, because they contain the path of the interpreter.
    """
    if package is None or not has_record(package):
        return ""
    content = hashlib.sha256()
    for file in installed_files(package):
        if not file.path.startswith("../"):
            content.update(os.fsencode(f"{file.path}\0{file.hash}\0"))
    return "sha256:" + content.hexdigest()


def edited_files(package: Package | None, *, cache: Path | None = None) -> Mapping[str, str]:
    """Return the installed files of *package* that differ from RECORD, sorted by path.

    Returns
    -------
    Mapping
        Path relative to the folder on ``sys.path`` to the current sha256, which is empty for a missing
        file. Scripts outside that folder are omitted, because they contain the interpreter's path.
    """
    if package is None or not has_record(package):
        return {}
    inside = (file for file in installed_files(package) if not file.path.startswith("../"))
    recorded = {file.path: file.sha256 for file in inside}
    now = file_digests(Path(package.location), recorded, scope=package.metadata_path, cache=cache)
    return {
        path: now.get(path, "")
        for path, sha256 in recorded.items()
        if sha256 is not None and now.get(path) != sha256
    }


def installed_digest(package: Package | None, *, cache: Path | None = None) -> str:
    """Return ``sha256:<hex>`` over the installed files of *package*, with edits; empty without RECORD."""
    if not (record := record_digest(package)):
        return ""
    identity = {"record": record, "edited": edited_files(package, cache=cache)}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _is_by_installer(path: PurePosixPath, dist_info: str) -> bool:
    if path.suffix in (".pyc", ".pyo") or "__pycache__" in path.parts:
        return True
    return len(path.parts) == 2 and path.parts[0] == dist_info and path.name in _INSTALLER_FILES
