"""Fetching what a lock has from channels: what has gone, and what is in each archive, is known only then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.errors import ArtifactGone, FetchError
from imagesync.lock.conda.archive_paths import provided_by
from imagesync.lock.conda.provided_distributions import refuse_shared
from imagesync.lock.conda.replace_missing import RecordContent, no_record_content, replace_gone
from imagesync.lock.lock import Lock
from imagesync.store.store import StoredFile

if TYPE_CHECKING:
    from imagesync.lock.conda.channels import Channels


def fetch_archives(
    lock: Lock,
    *,
    channels: Channels,
    record_content: RecordContent = no_record_content,
    exactly: bool = False,
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the archives of the conda packages of *lock*, in their order, and the lock as it is then.

    Parameters
    ----------
    record_content
        Gives the installed files of a conda package, if they can stand in for it.
    exactly
        Whether nothing may take the place of what has gone.

    Raises
    ------
    FetchError
        An archive can't be had, and nothing can take its place.
    LockError
        An archive has a distribution that pip's part has as well.
    """
    try:
        return _obtain(lock, channels, None if exactly else record_content)
    finally:
        channels.close()


def _obtain(
    lock: Lock, channels: Channels, record_content: RecordContent | None
) -> tuple[Lock, tuple[StoredFile, ...]]:
    while lock.conda:
        found = channels.archives(lock.conda).obtain(lock.conda)
        pairs = list(zip(lock.conda, found, strict=True))
        gone = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
        if not gone:
            files = tuple(file for file in found if isinstance(file, StoredFile))
            return _checked(lock, files), files
        if record_content is None:
            raise _gone_for_good(list(gone.values()))
        lock = replace_gone(lock, gone, solver=channels, record_content=record_content)
    return lock, ()


def _gone_for_good(gone: Sequence[ArtifactGone]) -> FetchError:
    lines = "\n".join(f"- {error.message}" for error in gone)
    subject = "An archive" if len(gone) == 1 else f"{len(gone)} archives"
    return FetchError(
        f"{subject} that the lock file names can't be had any more:\n{lines}",
        hint="Lock again, where the environment is: imagesync lock -o conda-lock.yml\n"
        "Or put what is missing into a package cache (pkgs_dirs).",
    )


def _checked(lock: Lock, files: tuple[StoredFile, ...]) -> Lock:
    """Return *lock* with the distributions that the archives really have."""
    names = provided_by(files)
    packages = tuple(
        replace(package, distributions=provided) for package, provided in zip(lock.conda, names, strict=True)
    )
    refuse_shared(packages, [*(p.name for p in lock.packages), *(p.name for p in lock.vendored)])
    return replace(lock, conda=packages)
