"""Give every module of an environment its bytecode; runs in the build, in the environment's own interpreter.

Usage: python bytecode.py [FOLDER]

FOLDER holds archives of bytecode compiled beforehand, one a wheel, with members relative to site-packages.
Modules without any are compiled here. All of it is unchecked: files of a layer don't change, their times may.
"""

# There are tens of thousands of files, and pathlib takes its time for each.
# ruff: noqa: PTH103, PTH107, PTH110, PTH112, PTH118, PTH120, PTH123, PTH208

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

TAG = f".{sys.implementation.cache_tag}.pyc"


def of_several(archives: list[str]) -> frozenset[str]:
    """Return the members that more than one archive has: namespaces may share an ``__init__.py``.

    Whose module is installed only its file says, and bytecode that isn't checked must be of that one.
    """
    seen: set[str] = set()
    again: set[str] = set()
    for archive in archives:
        with zipfile.ZipFile(archive) as content:
            names = set(content.namelist())
        again |= names & seen
        seen |= names
    return frozenset(again)


def unpack(
    archive: str,
    *,
    site_packages: str,
    without: frozenset[str] = frozenset(),
    magic: bytes = importlib.util.MAGIC_NUMBER,
    suffix: str = TAG,
    ahead: bool = False,
) -> list[str]:
    """Write the members of an archive that an interpreter can load, and return where they are.

    It is this interpreter, or another, whose bytecode begins with *magic* in files that end with *suffix*.
    Where their sources come later (*ahead*), the caller removes what then has none (:func:`remove_orphans`);
    else nothing is written where there is no folder of sources.
    """
    known: dict[str, bool] = {}
    written: list[str] = []
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            target = os.path.normpath(os.path.join(site_packages, member.filename))
            if not target.startswith(site_packages + os.sep) or not target.endswith(suffix):
                continue
            if member.filename in without:
                continue
            folder = os.path.dirname(target)
            if folder not in known:
                known[folder] = ahead or os.path.isdir(os.path.dirname(folder))
                if known[folder]:
                    os.makedirs(folder, exist_ok=True)
            if not known[folder]:
                continue
            data = content.read(member)
            if data.startswith(magic):
                with open(target, "wb") as file:
                    file.write(data)
                written.append(target)
    return written


def remove_orphans(written: list[str], suffix: str) -> None:
    """Remove bytecode whose source didn't come, and the folders that then hold nothing."""
    for path in written:
        folder, name = os.path.split(path)
        if not os.path.exists(os.path.join(os.path.dirname(folder), f"{name[: -len(suffix)]}.py")):
            os.remove(path)
            with suppress(OSError):  # not empty
                os.removedirs(folder)


def without_bytecode(site_packages: str) -> list[str]:
    """Return the modules that have no bytecode yet."""
    found = []
    for folder, folders, files in os.walk(site_packages):
        sources = [name for name in files if name.endswith(".py")]
        if sources:
            cache = os.path.join(folder, "__pycache__")
            present = set(os.listdir(cache)) if "__pycache__" in folders else set()
            found += [os.path.join(folder, name) for name in sources if name[:-3] + TAG not in present]
    return sorted(found)


def installed_path(name: str) -> str:
    """Return where a wheel's member goes below site-packages; empty for what goes elsewhere."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    scheme, _, inside = rest.partition("/")
    return inside if scheme in ("purelib", "platlib") else ""


def lacking(modules: list[str]) -> list[str]:
    """Return those of some modules that have no bytecode of their own; what another one left is removed."""
    return [path for path in modules if not has_bytecode(path)]


def has_bytecode(path: str) -> bool:
    """Return whether the bytecode of a module was made from what is in its file now (PEP 552)."""
    cached = importlib.util.cache_from_source(path)
    try:
        with open(cached, "rb") as file:
            made_from = file.read(16)[8:]
    except FileNotFoundError:
        return False
    with open(path, "rb") as file:
        same = made_from == importlib.util.source_hash(file.read())
    if not same:
        os.remove(cached)
    return same


def packages_folder() -> str:
    """Return the environment's folder of packages."""
    return os.path.realpath(sysconfig.get_path("purelib"))


def compile_module(path: str) -> None:
    """Compile one module; one that isn't Python of this version, such as a code template, stays as it is."""
    compileall.compile_file(path, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def main(arguments: list[str]) -> None:
    """Unpack what there is, and compile the rest, on all cores."""
    site_packages = packages_folder()
    archives = [os.path.join(folder, name) for folder in arguments for name in sorted(os.listdir(folder))]
    with ProcessPoolExecutor() as pool:
        write = partial(unpack, site_packages=site_packages, without=of_several(archives))
        list(pool.map(write, archives))
        list(pool.map(compile_module, without_bytecode(site_packages), chunksize=16))


if __name__ == "__main__":
    main(sys.argv[1:])
