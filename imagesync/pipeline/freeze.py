"""A lock together with the files that only this machine has, for a lock file that others can use."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.errors import ArtifactGone
from imagesync.lock.conda.replace_missing import replace_missing_archives
from imagesync.lock.lock import Lock, LockedConda
from imagesync.lock.lockfile.bundle import ARCHIVES, WHEELS, Bundle, is_local
from imagesync.pipeline.artifact_sources import fetch_packages
from imagesync.pipeline.fetch import make_wheels
from imagesync.plan.plan import Plan

if TYPE_CHECKING:
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.store.store import StoredFile


def freeze(plan: Plan, lock: Lock, sources: ArtifactSources) -> Bundle:
    """Return *lock* with the files that a lock file must bring along.

    These are wheels made on this machine, and what comes from an index or a channel in a folder of it.

    Raises
    ------
    FetchError, WheelError
        A file can't be had, or a wheel can't be made.
    """
    # First, because wheels may have to stand in for archives that are gone.
    lock, archives = _archives(lock, sources)
    lock, made = make_wheels(lock, sources)
    local = [package for package in lock.packages if is_local(package.artifact)]
    fetched = fetch_packages(local, sources) if local else ()
    files = {f"{WHEELS}/{file.filename}": file for file in (*made, *fetched)}
    md5 = {package.name: package.md5 for package in lock.conda if package.md5}
    for package, archive in archives:
        md5.setdefault(package.name, _md5(archive.path))
        if is_local(package.artifact):
            files[f"{ARCHIVES}/{package.subdir}/{archive.filename}"] = archive
    wheels = {str(package.name): wheel for package, wheel in zip(lock.vendored, made, strict=True)}
    return Bundle(plan, lock, files, wheels, md5)


def _archives(lock: Lock, sources: ArtifactSources) -> tuple[Lock, list[tuple[LockedConda, StoredFile]]]:
    """Return the archives that are needed, and the lock with something else for those that are gone."""
    while True:
        wanted = [package for package in lock.conda if not package.md5 or is_local(package.artifact)]
        found = sources.channels.archives(wanted).obtain(wanted) if wanted else ()
        pairs = list(zip(wanted, found, strict=True))
        gone = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
        if not gone:
            return lock, [(package, file) for package, file in pairs if not isinstance(file, ArtifactGone)]
        content = sources.record_distributions(lock.target)
        lock = replace_missing_archives(lock, gone, solver=sources.channels, record_content=content)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        found = hashlib.md5(usedforsecurity=False)
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()
