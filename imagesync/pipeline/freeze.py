"""A lock with the files that a lock file brings along: local wheels, and artifacts from folders."""

from __future__ import annotations

from collections.abc import Sequence

from imagesync.core.digests import file_hexdigest
from imagesync.errors import ArtifactGone, FetchError, HashMismatch, LockError
from imagesync.lock.conda.missing_archives import replace_missing_archives
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import LockedConda
from imagesync.lock.lockfile.conda_pip import find_pip, needs_pip
from imagesync.lock.lockfile.write import ARCHIVES, WHEELS, Bundle, is_local
from imagesync.lock.make_lock import refuse_deviations
from imagesync.pipeline.artifact_sources import ArtifactSources, fetch_packages
from imagesync.pipeline.artifacts import make_wheels, report_local_secrets
from imagesync.plan.plan import Plan
from imagesync.store.store import StoredFile


def freeze(plan: Plan, lock: Lock, sources: ArtifactSources, *, with_pip: bool = False) -> Bundle:
    """Return *lock* with the files that a lock file must bring along.

    These are wheels made on this machine, and what comes from an index or a channel in a folder of it.

    Parameters
    ----------
    plan
        The plan.
    lock
        The lock.
    sources
        The sources of its artifacts.
    with_pip
        Whether to add conda's pip for others, if the lock has packages of pip beside conda's Python.

    Raises
    ------
    DeviationError
        The plan is strict, and a wheel has another version, isn't made, or has what looks like a secret.
    FetchError, WheelError
        A file can't be had, or a wheel can't be made.
    """
    # First, because wheels may have to stand in for archives that are gone.
    lock, archives = _archives(lock, sources)
    lock, made = make_wheels(lock, sources)
    refuse_deviations(plan, lock)
    report_local_secrets(lock, made, sources)
    local = [package for package in lock.packages if is_local(package.artifact)]
    fetched = fetch_packages(local, sources) if local else ()
    files = {f"{WHEELS}/{file.filename}": file for file in (*made, *fetched)}
    pip, of_pip = _pip_for_others(lock, sources) if with_pip else ((), [])
    md5 = {package.name: package.md5 for package in (*lock.conda, *pip) if package.md5}
    for package, archive in (*archives, *of_pip):
        md5.setdefault(package.name, file_hexdigest(archive.path, "md5"))
        if is_local(package.artifact):
            files[f"{ARCHIVES}/{package.subdir}/{archive.filename}"] = archive
    wheels = {str(package.name): wheel for package, wheel in zip(lock.vendored, made, strict=True)}
    return Bundle(plan, lock, files, wheels, md5, pip)


def _archives(lock: Lock, sources: ArtifactSources) -> tuple[Lock, list[tuple[LockedConda, StoredFile]]]:
    """Return the archives that are needed, and the lock with something else for those that are gone."""
    while True:
        found, gone = _obtain(lock.conda, sources)
        if not gone:
            return lock, found
        content = sources.record_distributions(lock.target)
        lock = replace_missing_archives(lock, gone, solver=sources.channels, record_distributions=content)


def _obtain(
    packages: Sequence[LockedConda], sources: ArtifactSources
) -> tuple[list[tuple[LockedConda, StoredFile]], dict[str, ArtifactGone]]:
    """Return the archives of packages that a lock file needs, and by name the errors for missing ones."""
    wanted = [package for package in packages if not package.md5 or is_local(package.artifact)]
    found = sources.channels.archives(wanted).obtain(wanted) if wanted else ()
    pairs = list(zip(wanted, found, strict=True))
    gone = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
    return [(package, file) for package, file in pairs if not isinstance(file, ArtifactGone)], gone


def _pip_for_others(
    lock: Lock, sources: ArtifactSources
) -> tuple[tuple[LockedConda, ...], list[tuple[LockedConda, StoredFile]]]:
    """Return conda's pip and what it needs for a lock file, and their archives; nothing if there is none."""
    if not needs_pip(lock):
        return (), []
    try:
        pip = find_pip(lock, prefix=sources.python.prefix, solver=sources.channels)
        found, gone = _obtain(pip, sources)
    except HashMismatch:
        raise
    except (LockError, FetchError):
        pip, found, gone = (), [], {}
    finally:
        sources.channels.close()
    if pip and not gone:
        return pip, found
    sources.context.progress.line(
        "The lock has packages of pip and no channel has conda's pip: conda-lock and micromamba need one to "
        "install them"
    )
    return (), []
