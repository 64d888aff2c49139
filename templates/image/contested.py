"""Of a file that several packages have, put that there which the user has installed; runs in the build.

Usage: python contested.py REQUIREMENTS WHEELS

REQUIREMENTS has a line for each such file, ``# file <sha256> <path below site-packages>``; installers take it
for a comment. The folder WHEELS has the wheels that were installed, in an order that nobody knows.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).parent))

import bytecode


def wanted(requirements: Path) -> dict[str, str]:
    """Return the sha256 of each file, by its path."""
    text = requirements.read_text(encoding="utf-8")
    return {path: digest for digest, path in re.findall(r"(?m)^# file ([0-9a-f]{64}) (.+)$", text)}


def is_there(path: Path, digest: str) -> bool:
    """Return whether a file has that content."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def settle(files: dict[str, str], wheels: list[Path], site_packages: Path) -> None:
    """Write each file that isn't as it is wanted; where no wheel has it so, that of the first by name."""
    lacking = {path: digest for path, digest in files.items() if not is_there(site_packages / path, digest)}
    if not lacking:
        return
    found: dict[str, list[bytes]] = {}
    for wheel in sorted(wheels):
        with ZipFile(wheel) as archive:
            for name in archive.namelist():
                if (path := bytecode.installed_path(name)) in lacking:
                    found.setdefault(path, []).append(archive.read(name))
    for path, contents in found.items():
        same = [content for content in contents if hashlib.sha256(content).hexdigest() == lacking[path]]
        if same or len(contents) > 1:
            write(site_packages / path, (same or contents)[0])


def write(path: Path, content: bytes) -> None:
    """Write a file; not in place, because the installer may have linked it."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)
    if path.suffix == ".py":
        Path(importlib.util.cache_from_source(os.fspath(path))).unlink(missing_ok=True)


def main(requirements: str, wheels: str) -> None:
    """Settle all of them."""
    settle(wanted(Path(requirements)), list(Path(wheels).glob("*.whl")), Path(bytecode.packages_folder()))


if __name__ == "__main__":
    main(*sys.argv[1:])
