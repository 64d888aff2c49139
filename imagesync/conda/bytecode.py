"""The modules of noarch conda packages, which bring no bytecode: compiled once, as those of wheels are."""

from __future__ import annotations

import asyncio
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.conda.contents import named

if TYPE_CHECKING:
    from imagesync.lock.lock import LockedConda
    from imagesync.store.store import Store, StoredFile

_FORMAT = 1  # raised when the same archive would give other modules
_SITE_PACKAGES = "site-packages/"
_DATE = (1980, 1, 1, 0, 0, 0)


def noarch_modules(
    packages: Sequence[LockedConda], archives: Sequence[StoredFile], *, store: Store
) -> tuple[StoredFile, ...]:
    """Return for each noarch package for Python an archive of its modules alone, as a wheel has them.

    They are what :func:`~imagesync.wheels.bytecode.compile_bytecode` takes, and kept in the store.
    """
    pairs = zip(packages, archives, strict=True)
    return tuple(_modules(archive, store) for package, archive in pairs if package.noarch == "python")


def _modules(archive: StoredFile, store: Store) -> StoredFile:
    key = f"conda-modules {_FORMAT} {archive.digest}"
    modules = store.recall(key)
    if modules is None:
        with tempfile.TemporaryDirectory(prefix="imagesync-conda-") as folder:
            target = Path(folder, "modules.zip")
            asyncio.run(_copy_modules(named(archive, Path(folder)), target))
            modules = store.add_file(target, filename=f"{_stem(archive.filename)}.whl")
        store.remember(key, modules)
    return modules


def _stem(filename: str) -> str:
    return filename.removesuffix(".conda").removesuffix(".tar.bz2")


async def _copy_modules(archive: Path, target: Path) -> None:
    from rattler.package_streaming import PackageArchive

    modules: dict[str, bytes] = {}
    package = await PackageArchive.from_path(archive)
    async for entry in package.stream("pkg"):
        if entry.is_file and entry.name.startswith(_SITE_PACKAGES) and entry.name.endswith(".py"):
            modules[entry.name.removeprefix(_SITE_PACKAGES)] = await entry.read()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive_of_modules:
        for name in sorted(modules):
            archive_of_modules.writestr(zipfile.ZipInfo(name, _DATE), modules[name], zipfile.ZIP_DEFLATED)
