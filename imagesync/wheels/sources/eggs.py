"""Installed eggs (``setup.py install``, ``easy_install``), folders and zip archives, as the files of wheels.

Nothing records the files of an egg: everything in it belongs to the package. Its scripts in ``bin`` are
wrappers that installers of wheels write in their own way.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from imagesync.core.archive_members import ZIP_DAMAGE
from imagesync.core.stat_cache import file_digests
from imagesync.errors import WheelError
from imagesync.scan.environment import Package

_METADATA = frozenset({"entry_points.txt", "top_level.txt", "namespace_packages.txt"})
# The loader of an extension module, which eggs have beside it; it needs pkg_resources.
_LOADER = b"__bootstrap__()"


class EggFile(NamedTuple):
    """A file of an egg.

    Parameters
    ----------
    path
        Relative to the egg, with ``/``.
    executable
        Whether it may be run.
    """

    path: str
    content: bytes
    executable: bool


def egg_digest(package: Package) -> str:
    """Return ``sha256:<hex>`` over the names and contents of the files of an egg."""
    egg = Path(package.location)
    if egg.is_dir():
        paths, folder = _paths(egg), egg
    else:
        paths, folder = [egg.name], egg.parent
    digest = hashlib.sha256()
    found = file_digests(folder, paths, scope=package.metadata_path, cache=None)
    for path, sha256 in sorted(found.items()):
        digest.update(os.fsencode(f"{path}\0{sha256}\0"))
    return f"sha256:{digest.hexdigest()}"


def egg_stem(package: Package) -> str:
    """Return the name and the version of an egg as in the filename of its wheel."""
    try:
        version = str(Version(package.version))
    except InvalidVersion:
        version = package.version.replace("-", "_")
    return f"{package.name.replace('-', '_')}-{version}"


def read_egg_files(package: Package) -> Iterator[EggFile]:
    """Yield the files of an egg without bytecode, sorted.

    Raises
    ------
    WheelError
        The egg can't be read.
    """
    egg = Path(package.location)
    try:
        if egg.is_dir():
            for path in _paths(egg):
                file = egg / path
                yield EggFile(path, file.read_bytes(), os.access(file, os.X_OK))
            return
        with zipfile.ZipFile(egg) as archive:
            for name in sorted(set(archive.namelist())):
                if not name.endswith("/") and not _is_bytecode(name):
                    yield EggFile(name, archive.read(name), executable=False)
    except ZIP_DAMAGE as error:
        raise WheelError(
            f"{package.name} {package.version}: the egg {egg} can't be read: {error}.",
            hint="Install the package again, with pip.",
        ) from error


def _paths(egg: Path) -> list[str]:
    """Return the files in the folder *egg*; a link that leads out of it is no file of the package."""
    inside = f"{os.path.realpath(egg)}{os.sep}"
    found = []
    for folder, _, names in os.walk(egg):
        for name in names:
            file = Path(folder, name)
            path = file.relative_to(egg).as_posix()
            if file.is_file() and os.path.realpath(file).startswith(inside) and not _is_bytecode(path):
                found.append(path)
    return sorted(found)


def _is_bytecode(path: str) -> bool:
    return path.endswith((".pyc", ".pyo")) or "__pycache__" in PurePosixPath(path).parts


def wheel_members(package: Package) -> Iterator[EggFile]:
    """Yield the files of a wheel of an egg, without RECORD: modules, scripts, and the metadata last.

    Raises
    ------
    WheelError
        The egg can't be read.
    """
    stem = egg_stem(package)
    files = list(read_egg_files(package))
    libraries = {file.path.partition(".")[0] for file in files if file.path.endswith((".so", ".pyd"))}
    metadata = [EggFile(f"{stem}.dist-info/WHEEL", _wheel_file(package), executable=False)]
    for file in files:
        path = PurePosixPath(file.path)
        if path.parts[0] != "EGG-INFO":
            if file.path.removesuffix(".py") not in libraries or _LOADER not in file.content:
                yield file
        elif path.parts[1:2] == ("scripts",) and len(path.parts) == 3:
            content = _portable_script(file.content)
            yield EggFile(f"{stem}.data/scripts/{path.name}", content, executable=True)
        elif path.parts == ("EGG-INFO", "PKG-INFO"):
            content = _metadata_file(file.content, package)
            metadata.append(EggFile(f"{stem}.dist-info/METADATA", content, executable=False))
        elif len(path.parts) == 2 and path.name in _METADATA:
            metadata.append(file._replace(path=f"{stem}.dist-info/{path.name}"))
    yield from sorted(metadata)


def _wheel_file(package: Package) -> bytes:
    lines = [
        "Wheel-Version: 1.0",
        "Generator: imagesync",
        f"Root-Is-Purelib: {str(bool(package.purelib)).lower()}",
        *(f"Tag: {tag}" for tag in package.tags),
    ]
    return ("\n".join(lines) + "\n").encode()


def _metadata_file(content: bytes, package: Package) -> bytes:
    """Return PKG-INFO as METADATA, which has the requirements that an egg has in requires.txt."""
    headers, separator, rest = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = headers.rstrip(b"\n").split(b"\n")
    if not any(line.lower().startswith(b"requires-dist:") for line in lines):
        lines += [f"Requires-Dist: {line}".encode() for line in package.requires]
    lines = [b"Metadata-Version: 2.1" if _is_old(line) else line for line in lines]
    return b"\n".join(lines) + (separator or b"\n") + rest


def _is_old(line: bytes) -> bool:
    name, _, value = line.partition(b":")
    return name.lower() == b"metadata-version" and value.strip() in (b"1.0", b"1.1", b"1.2", b"2.0")


def _portable_script(content: bytes) -> bytes:
    first, newline, rest = content.partition(b"\n")
    return b"#!python" + newline + rest if first.startswith(b"#!") and b"python" in first else content
