"""Collect the modules of conda packages that have no valid bytecode, to be compiled once, like wheels.

Noarch packages never have bytecode; most others do.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from imagesync.core.archive_members import zip_member
from imagesync.core.scratch import scratch_folder
from imagesync.image_layout import PREFIX
from imagesync.lock.conda.archive_files import archive_path

if TYPE_CHECKING:
    from imagesync.lock.locked_packages import LockedConda
    from imagesync.store.store import Store, StoredFile

_FORMAT = 2  # raised when the same archive gives other modules
_EMPTY = 22  # a ZIP archive without members, in bytes


def library(minor: str) -> PurePosixPath:
    """Return the image's folder of the standard library, which contains site-packages.

    >>> str(library("3.12"))
    '/opt/env/lib/python3.12'
    """
    return PREFIX / "lib" / f"python{minor}"


def modules_to_compile(
    packages: Sequence[LockedConda], archives: Sequence[StoredFile], *, minor: str, store: Store
) -> tuple[StoredFile, ...]:
    """Return archives of the modules without valid bytecode, one for each package that has such modules.

    Members are relative to :func:`library`. The archives are kept in the store, and
    :func:`~imagesync.wheels.bytecode.compile_bytecode` takes them like wheels.

    Parameters
    ----------
    packages, archives
        The conda packages, and their archives in the same order.
    minor
        The feature version of the environment's Python, such as ``3.12``.
    store
        Keeps the archives of modules.
    """
    found = (
        _modules(package, archive, minor, store) for package, archive in zip(packages, archives, strict=True)
    )
    return tuple(modules for modules in found if modules.size > _EMPTY)


def _modules(package: LockedConda, archive: StoredFile, minor: str, store: Store) -> StoredFile:
    key = f"conda-modules {_FORMAT} {minor} {archive.digest}"
    modules = store.recall(key)
    if modules is None:
        with scratch_folder("conda") as folder:
            target = folder / "modules.zip"
            root = folder / "content"
            _extract(archive_path(archive, folder), root)
            inside = "" if package.noarch == "python" else f"lib/python{minor}"
            _write(sorted(_without_bytecode(root / inside, minor)), root / inside, target)
            filename = archive.filename.removesuffix(".conda").removesuffix(".tar.bz2")
            modules = store.add_file(target, filename=f"{filename}.whl")
        store.remember(key, modules)
    return modules


def _extract(archive: Path, folder: Path) -> None:
    from rattler.package_streaming import extract

    extract(archive, folder)


def _write(modules: Sequence[Path], root: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in modules:
            member = zip_member(path.relative_to(root).as_posix())
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _without_bytecode(root: Path, minor: str) -> Iterator[Path]:
    """Yield the modules in a folder whose bytecode is missing, or was made at another time."""
    tag = f".cpython-{minor.replace('.', '')}.pyc"
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if name.endswith(".py") and not _is_valid(path, path.parent / "__pycache__" / (name[:-3] + tag)):
                yield path


def _is_valid(module: Path, bytecode: Path) -> bool:
    """Return True if bytecode was made from a module, according to its header (PEP 552)."""
    try:
        with bytecode.open("rb") as file:
            header = file.read(16)
    except OSError:
        return False
    if int.from_bytes(header[4:8], "little") & 1:
        return True  # by hash, which the build checks: only the interpreter that compiled it can
    state = module.stat()
    recorded = (int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little"))
    return recorded == (int(state.st_mtime) & 0xFFFFFFFF, state.st_size & 0xFFFFFFFF)
