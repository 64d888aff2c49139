"""Files that several packages have with different content: one folder holds one of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from imagesync.plan.checks.modules import modules
from imagesync.scan.distributions.record import read_record
from imagesync.scan.environment import Package


def contested_files(packages: Iterable[Package]) -> Mapping[str, str]:
    """Return each file that several of *packages* have with different content, and which is here.

    Of an editable package it is its modules, which lie elsewhere: what is installed is found before them.

    Returns
    -------
    Mapping
        Path relative to site-packages, with ``/``, to the sha256 in hexadecimal. Files that aren't there,
        such as those of two editable packages, are left out.
    """
    recorded: dict[str, str] = {}
    folders: dict[str, str] = {}
    contested: set[str] = set()
    for package in packages:
        for path, content in _files(package).items():
            if recorded.setdefault(path, content) != content:
                contested.add(path)
            if not package.source.editable:
                folders[path] = package.location
    found = {path: _sha256(Path(folders[path], path)) for path in contested if path in folders}
    return {path: sha256 for path, sha256 in sorted(found.items()) if sha256}


def with_contested(packages_hash: str, contested: Mapping[str, str]) -> str:
    """Return the hash of a packages image with the files *contested* as they are here, ``sha256:<hex>``."""
    if not contested:
        return packages_hash
    canonical = json.dumps([packages_hash, sorted(contested.items())], separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def are_here(contested: Mapping[str, str], packages: Iterable[Package]) -> bool:
    """Return whether the files *contested* still are those of that content, beside *packages*."""
    folders = {package.location for package in packages if package.location}
    return all(
        any(_sha256(Path(folder, path)) == sha256 for folder in folders) for path, sha256 in contested.items()
    )


def _files(package: Package) -> Mapping[str, str]:
    if package.source.editable:
        return modules(package)
    if not package.has_record:
        return {}
    return {
        path: recorded
        for path, recorded, _ in read_record(package.metadata_path)
        if recorded and ".dist-info/" not in path and not path.startswith(("../", "/")) and path.isprintable()
    }


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
