"""Write the bytecode of all modules of an environment; runs in the build, in the environment's interpreter.

Usage: python compile_modules.py [FOLDER]

FOLDER holds archives of precompiled bytecode, one for each wheel, with members relative to site-packages.
Modules without any are compiled. All bytecode is unchecked (PEP 552): the files of a layer don't change, but
their times may.
"""

# There are tens of thousands of files: os.path is several times as fast as pathlib.
# ruff: noqa: PTH103, PTH107, PTH110, PTH112, PTH116, PTH118, PTH120, PTH123, PTH208

from __future__ import annotations

import compileall
import importlib.util
import os
import py_compile
import sys
import sysconfig
import zipfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial

from imagesync.standalone.compilation import MOST_SOURCE

SUFFIX = f".{sys.implementation.cache_tag}.pyc"


def shared_members(archives: list[str]) -> frozenset[str]:
    """Return the members that several archives have: namespace packages may share an ``__init__.py``.

    Unchecked bytecode has to match its source, and only the installed file tells which wheel that is from.
    """
    seen: set[str] = set()
    shared: set[str] = set()
    for archive in archives:
        with zipfile.ZipFile(archive) as content:
            names = set(content.namelist())
        shared |= names & seen
        seen |= names
    return frozenset(shared)


def extract_bytecode(
    archive: str,
    *,
    site_packages: str,
    excluded: frozenset[str] = frozenset(),
    magic: bytes = importlib.util.MAGIC_NUMBER,
    suffix: str = SUFFIX,
    before_sources: bool = False,
) -> list[str]:
    """Extract the bytecode that an interpreter can load, and return the paths of the files.

    Parameters
    ----------
    archive
        The path of a ZIP archive with members relative to *site_packages*.
    site_packages
        The folder to extract to.
    excluded
        Members that are left out.
    magic, suffix
        What the interpreter's bytecode begins with, and what its files end with; this interpreter's.
    before_sources
        Whether the sources are installed later. The caller then removes what has none
        (:func:`remove_orphans`); else nothing is written where there is no folder of sources.
    """
    writable: dict[str, bool] = {}
    written: list[str] = []
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            target = os.path.normpath(os.path.join(site_packages, member.filename))
            if not target.startswith(site_packages + os.sep) or not target.endswith(suffix):
                continue
            if member.filename in excluded:
                continue
            folder = os.path.dirname(target)
            if folder not in writable:
                writable[folder] = before_sources or os.path.isdir(os.path.dirname(folder))
                if writable[folder]:
                    os.makedirs(folder, exist_ok=True)
            if not writable[folder]:
                continue
            data = content.read(member)
            if data.startswith(magic):
                with open(target, "wb") as file:
                    file.write(data)
                written.append(target)
    return written


def remove_orphans(written: list[str], suffix: str) -> None:
    """Remove bytecode that has no source, and the folders that are empty then."""
    for path in written:
        folder, name = os.path.split(path)
        if not os.path.exists(os.path.join(os.path.dirname(folder), f"{name[: -len(suffix)]}.py")):
            os.remove(path)
            with suppress(OSError):  # not empty
                os.removedirs(folder)


def modules_without_bytecode(site_packages: str) -> list[str]:
    """Return the modules that have no bytecode."""
    found = []
    for folder, folders, files in os.walk(site_packages):
        sources = [name for name in files if name.endswith(".py")]
        if sources:
            cache = os.path.join(folder, "__pycache__")
            present = set(os.listdir(cache)) if "__pycache__" in folders else set()
            found += [os.path.join(folder, name) for name in sources if name[:-3] + SUFFIX not in present]
    return sorted(found)


def remove_stale_bytecode(module: str) -> bool:
    """Remove a module's bytecode if it is of another source; return whether valid bytecode is left."""
    cached = importlib.util.cache_from_source(module)
    try:
        with open(cached, "rb") as file:
            source_hash = file.read(16)[8:]
    except FileNotFoundError:
        return False
    with open(module, "rb") as file:
        valid = source_hash == importlib.util.source_hash(file.read())
    if not valid:
        os.remove(cached)
    return valid


def site_packages_folder() -> str:
    """Return the environment's site-packages."""
    return os.path.realpath(sysconfig.get_path("purelib"))


def compile_module(path: str) -> None:
    """Compile a module; one that is too large or not of this Python, as a code template, stays without."""
    if os.stat(path).st_size > MOST_SOURCE:
        return
    compileall.compile_file(path, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def main(arguments: list[str]) -> None:
    """Extract the bytecode of all archives and compile the rest, on all cores."""
    site_packages = site_packages_folder()
    archives = [os.path.join(folder, name) for folder in arguments for name in sorted(os.listdir(folder))]
    with ProcessPoolExecutor() as pool:
        write = partial(extract_bytecode, site_packages=site_packages, excluded=shared_members(archives))
        list(pool.map(write, archives))
        list(pool.map(compile_module, modules_without_bytecode(site_packages), chunksize=16))


if __name__ == "__main__":
    main(sys.argv[1:])
