"""Completing a lock file of conda-lock: facts about conda packages that only their archives have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from imagesync.errors import ArtifactGone, LockError
from imagesync.lock.conda.archive_files import ArchiveInfo, read_archives
from imagesync.lock.lock import Lock, LockedConda
from imagesync.scan.environment import CondaRecord

if TYPE_CHECKING:
    from imagesync.lock.conda.channels import Channels
    from imagesync.store.store import StoredFile


def enrich(lock: Lock, channels: Channels) -> Lock:
    """Return *lock* with the facts from the archives of its conda packages, which are fetched for that.

    Raises
    ------
    FetchError
        An archive can't be fetched.
    LockError
        An archive can't be read, or is of another package.
    """
    conda = [_with_digest(package, channels) for package in lock.conda]
    files = [_present(file) for file in channels.archives(lock.conda).obtain(conda)]
    enriched = map(_enrich, conda, files, read_archives(files))
    return replace(lock, conda=tuple(enriched))


def _present(archive: StoredFile | ArtifactGone) -> StoredFile:
    if isinstance(archive, ArtifactGone):
        raise archive
    return archive


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


def _enrich(package: LockedConda, archive: StoredFile, info: ArchiveInfo) -> LockedConda:
    index = info.index
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
        distributions=info.distributions,
    )


def _noarch(index: Mapping[str, Any]) -> Literal["", "python", "generic"]:
    noarch = index.get("noarch")
    if noarch == "python":
        return "python"
    return "generic" if noarch else ""
