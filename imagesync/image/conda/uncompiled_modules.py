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
from imagesync.image.conda.extracted_files import ExtractedFiles
from imagesync.image_layout import PREFIX
from imagesync.lock.conda.archive_files import archive_stem, extract_archive

if TYPE_CHECKING:
    from imagesync.lock.locked_packages import LockedConda
    from imagesync.store.store import Store, StoredFile

_FORMAT = 3  # raised when the same archive gives other modules
_EMPTY = 22  # a ZIP archive without members, in bytes


def library(minor: str) -> PurePosixPath:
    """Return the image's folder of the standard library, which contains site-packages.

    >>> str(library("3.12"))
    '/opt/env/lib/python3.12'
    """
    return PREFIX / "lib" / f"python{minor}"


def modules_to_compile(
    packages: Sequence[LockedConda],
    archives: Sequence[StoredFile],
    *,
    minor: str,
    store: Store,
    with_bytecode: bool = False,
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
    with_bytecode
        Whether the archives have all modules, each with its bytecode if that is valid.
    """
    found = (
        _modules(package, archive, minor, store, with_bytecode)
        for package, archive in zip(packages, archives, strict=True)
    )
    return tuple(modules for modules in found if modules.size > _EMPTY)


def _modules(
    package: LockedConda, archive: StoredFile, minor: str, store: Store, with_bytecode: bool
) -> StoredFile:
    key = f"conda-{'all-' if with_bytecode else ''}modules {_FORMAT} {minor} {archive.digest}"
    modules = store.recall(key)
    if modules is None:
        with scratch_folder("conda") as folder:
            target = folder / "modules.zip"
            root = extract_archive(archive, folder)
            inside = root if package.noarch == "python" else root / f"lib/python{minor}"
            _write_prefix(ExtractedFiles(root, archive.filename))
            chosen = _with_bytecode(inside, minor) if with_bytecode else _without_bytecode(inside, minor)
            _write(sorted(chosen), inside, target)
            modules = store.add_file(target, filename=f"{archive_stem(archive)}.whl")
        store.remember(key, modules)
    return modules


def _write_prefix(files: ExtractedFiles) -> None:
    """Write the image's prefix into the modules that have a placeholder, as installers do."""
    for listed in files.listed():
        path = files.folder / listed["_path"]
        if path.suffix == ".py" and not path.is_symlink() and path.is_file():
            content = files.with_prefix(listed)
            if content is not None:
                path.write_bytes(content)


def _write(modules: Sequence[Path], root: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in modules:
            archive.writestr(zip_member(path.relative_to(root).as_posix()), path.read_bytes())


def _without_bytecode(root: Path, minor: str) -> Iterator[Path]:
    """Yield the modules in a folder whose bytecode is missing, or was made at another time."""
    return (module for module, bytecode in _all_modules(root, minor) if bytecode is None)


def _with_bytecode(root: Path, minor: str) -> Iterator[Path]:
    """Yield all modules in a folder, and their bytecode if it is valid."""
    for module, bytecode in _all_modules(root, minor):
        yield module
        if bytecode is not None:
            yield bytecode


def _all_modules(root: Path, minor: str) -> Iterator[tuple[Path, Path | None]]:
    tag = f".cpython-{minor.replace('.', '')}.pyc"
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if name.endswith(".py") and _is_inside(path, root):
                bytecode = path.parent / "__pycache__" / (name[:-3] + tag)
                yield path, bytecode if is_valid_bytecode(path, bytecode) else None


def _is_inside(path: Path, root: Path) -> bool:
    """Return True for a file, and for a link to one that is in the archive."""
    if not path.is_symlink():
        return True
    return path.is_file() and path.resolve().is_relative_to(root.resolve())


def is_valid_bytecode(module: Path, bytecode: Path) -> bool:
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
