"""Files of installed distributions by RECORD (PEP 376), and those that were edited since."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from imagesync.core.stat_cache import file_digests
from imagesync.scan.distributions.record import installed_files
from imagesync.scan.environment import Package


def has_record(package: Package) -> bool:
    """Return True if *package* has a RECORD; the file lists of egg-info folders have no hashes."""
    return bool(package.metadata_path) and Path(package.metadata_path, "RECORD").is_file()


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
