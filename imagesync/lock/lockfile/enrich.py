"""What a lock file of conda-lock's doesn't say of conda packages: it is in their archives."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from packaging.utils import NormalizedName, canonicalize_name

from imagesync.errors import ArtifactGone, LockError
from imagesync.lock.conda.archive_contents import named
from imagesync.lock.lock import Lock, LockedConda
from imagesync.scan.environment import CondaRecord

if TYPE_CHECKING:
    from imagesync.lock.conda.channels import Channels
    from imagesync.store.store import StoredFile

_INDEX, _PATHS = "info/index.json", "info/paths.json"
_METADATA = re.compile(
    r"(?:^|/)site-packages/([^/]+?)-[^/-]+(?:-[^/]+)?\.(?:dist-info/METADATA|egg-info/PKG-INFO)$"
)


def complete(lock: Lock, channels: Channels) -> Lock:
    """Return *lock* with all that its conda packages' archives say; they are fetched for that.

    Raises
    ------
    FetchError
        An archive can't be had.
    LockError
        An archive can't be read.
    """
    archives = channels.archives(lock.conda)
    conda = [_with_digest(package, channels) for package in lock.conda]
    found = archives.obtain(conda)
    with tempfile.TemporaryDirectory(prefix="imagesync-lock-") as folder:
        completed = [_complete(p, file, Path(folder)) for p, file in zip(conda, found, strict=True)]
    return replace(lock, conda=tuple(completed))


def _with_digest(package: LockedConda, channels: Channels) -> LockedConda:
    if package.artifact.digest:
        return package
    record = CondaRecord(
        name=package.name,
        version=package.version,
        build=package.build,
        build_number=package.build_number,
        channel=package.channel,
        subdir=package.subdir,
        filename=package.artifact.filename,
        url=package.artifact.url,
        md5=package.md5,
    )
    return replace(package, artifact=replace(package.artifact, digest=channels.digest(record)))


def _complete(package: LockedConda, archive: StoredFile | ArtifactGone, folder: Path) -> LockedConda:
    if isinstance(archive, ArtifactGone):
        raise archive
    try:
        index, paths = asyncio.run(_information(named(archive, folder)))
    except Exception as error:
        # py-rattler has a kind of exception for each of its layers.
        raise LockError(
            f"The archive {archive.filename} can't be read: {error}",
            hint="If its channel gave a broken file, tell its owners.",
        ) from error
    if (index.get("name"), index.get("version")) != (package.name, package.version):
        raise LockError(
            f"{archive.filename} holds {index.get('name')} {index.get('version')}, and the lock file says "
            f"{package.name} {package.version}.",
            hint="Lock again.",
        )
    return replace(
        package,
        artifact=replace(package.artifact, size=archive.size),
        build=index.get("build", package.build),
        build_number=index.get("build_number", 0),
        noarch=_noarch(index),
        depends=tuple(index.get("depends", package.depends)),
        constrains=tuple(index.get("constrains", ())),
        distributions=_distributions(paths),
    )


def _noarch(index: dict[str, Any]) -> Literal["", "python", "generic"]:
    noarch = index.get("noarch")
    if noarch == "python":
        return "python"
    return "generic" if noarch else ""


def _distributions(paths: Iterable[str]) -> tuple[NormalizedName, ...]:
    names = (match[1] for path in paths if (match := _METADATA.search(path)))
    return tuple(sorted({canonicalize_name(name) for name in names}))


async def _information(path: Path) -> tuple[dict[str, Any], list[str]]:
    from rattler.package_streaming import PackageArchive

    archive = await PackageArchive.from_path(path)
    found = await archive.read_files([_INDEX, _PATHS])
    index, paths = found[_INDEX], found[_PATHS]
    if index is None:
        raise ValueError(f"there is no {_INDEX}")
    if paths is not None:
        names = [entry["_path"] for entry in json.loads(paths)["paths"]]
    else:  # made before conda-build 3
        names = list(await archive.list_files("pkg"))
    return json.loads(index), names
