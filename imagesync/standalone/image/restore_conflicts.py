"""Restore the installed content of files that several packages have; runs in the build.

Usage: python restore_conflicts.py REQUIREMENTS WHEELS

REQUIREMENTS has a line for each such file, ``# file <sha256> <path below site-packages>``, which installers
take for a comment. The folder WHEELS holds the wheels that were installed, in an unknown order.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from zipfile import ZipFile

from imagesync.standalone.distributions import installed_path
from imagesync.standalone.image.compile_modules import site_packages_folder


def conflicting_files(requirements: Path) -> dict[str, str]:
    """Return the sha256 of each file that several packages have, by its path below site-packages."""
    text = requirements.read_text(encoding="utf-8")
    return {path: digest for digest, path in re.findall(r"(?m)^# file ([0-9a-f]{64}) (.+)$", text)}


def has_content(path: Path, sha256: str) -> bool:
    """Return True if a file has the content of that digest."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def resolve_conflicts(files: dict[str, str], wheels: list[Path], site_packages: Path) -> None:
    """Write each file whose content differs; if no wheel has that content, use the first wheel by name."""
    differing = {
        path: sha256 for path, sha256 in files.items() if not has_content(site_packages / path, sha256)
    }
    if not differing:
        return
    found: dict[str, list[bytes]] = {}
    for wheel in sorted(wheels):
        with ZipFile(wheel) as archive:
            for name in archive.namelist():
                if (path := installed_path(name)) in differing:
                    found.setdefault(path, []).append(archive.read(name))
    for path, contents in found.items():
        same = [content for content in contents if hashlib.sha256(content).hexdigest() == differing[path]]
        if same or len(contents) > 1:
            replace_file(site_packages / path, (same or contents)[0])


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file and remove its bytecode; not in place, because the installer may have linked it."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)
    if path.suffix == ".py":
        Path(importlib.util.cache_from_source(os.fspath(path))).unlink(missing_ok=True)


def main(requirements: str, wheels: str) -> None:
    """Restore all conflicting files."""
    files = conflicting_files(Path(requirements))
    resolve_conflicts(files, list(Path(wheels).glob("*.whl")), Path(site_packages_folder()))


if __name__ == "__main__":
    main(*sys.argv[1:])
