"""The modules of conda packages that bring no valid bytecode: compiled once, as those of wheels are.

Noarch packages never bring any; most others do.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from imagesync.image_layout import PREFIX
from imagesync.lock.conda.archive_files import archive_path

if TYPE_CHECKING:
    from imagesync.lock.lock import LockedConda
    from imagesync.store.store import Store, StoredFile

_FORMAT = 2  # raised when the same archive would give other modules
_DATE = (1980, 1, 1, 0, 0, 0)
_EMPTY = 22  # a ZIP archive without members, in bytes


def library(minor: str) -> PurePosixPath:
    """Return the image's folder of the standard library, which site-packages lies in.

    >>> str(library("3.12"))
    '/opt/env/lib/python3.12'
    """
    return PREFIX / "lib" / f"python{minor}"


def modules_to_compile(
    packages: Sequence[LockedConda], archives: Sequence[StoredFile], *, minor: str, store: Store
) -> tuple[StoredFile, ...]:
    """Return archives of the modules without valid bytecode, one for each package that has some.

    Members are relative to :func:`library`. They are what
    :func:`~imagesync.wheels.bytecode.compile_bytecode` takes for wheels, and kept in the store.
    """
    found = (
        _modules(package, archive, minor, store) for package, archive in zip(packages, archives, strict=True)
    )
    return tuple(modules for modules in found if modules.size > _EMPTY)


def _modules(package: LockedConda, archive: StoredFile, minor: str, store: Store) -> StoredFile:
    key = f"conda-modules {_FORMAT} {minor} {archive.digest}"
    modules = store.recall(key)
    if modules is None:
        with tempfile.TemporaryDirectory(prefix="imagesync-conda-") as folder:
            target = Path(folder, "modules.zip")
            root = Path(folder, "content")
            _extract(archive_path(archive, Path(folder)), root)
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
            member = zipfile.ZipInfo(path.relative_to(root).as_posix(), _DATE)
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _without_bytecode(root: Path, minor: str) -> Iterator[Path]:
    """Yield the modules in a folder whose bytecode is missing, or of another time than they are."""
    tag = f".cpython-{minor.replace('.', '')}.pyc"
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if name.endswith(".py") and not _is_valid(path, path.parent / "__pycache__" / (name[:-3] + tag)):
                yield path


def _is_valid(module: Path, bytecode: Path) -> bool:
    """Return whether bytecode was made from a module, as far as its header says (PEP 552)."""
    try:
        with bytecode.open("rb") as file:
            header = file.read(16)
    except OSError:
        return False
    if int.from_bytes(header[4:8], "little") & 1:
        return True  # by hash, which only the interpreter that made it can check: the build does
    state = module.stat()
    recorded = (int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little"))
    return recorded == (int(state.st_mtime) & 0xFFFFFFFF, state.st_size & 0xFFFFFFFF)
