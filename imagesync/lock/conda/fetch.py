"""Fetching the conda archives of a lock, with replacements for those that have disappeared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.errors import ArtifactGone, FetchError
from imagesync.lock.conda.archive_files import read_archives
from imagesync.lock.conda.provided_distributions import refuse_duplicates
from imagesync.lock.conda.replace_missing import (
    RecordContent,
    no_record_content,
    replace_missing_archives,
)
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
    """Return *lock* with replacements for missing archives, and the archives of its conda packages in order.

    The process of *channels* is ended. With *exactly*, replacements are refused.

    Raises
    ------
    FetchError
        An archive is missing and has no replacement.
    LockError
        An archive can't be read, or has a distribution that pip installs, too.
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
        missing = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
        if not missing:
            files = tuple(file for file in found if isinstance(file, StoredFile))
            return _checked(lock, files), files
        if record_content is None:
            raise _no_replacement(list(missing.values()))
        lock = replace_missing_archives(lock, missing, solver=channels, record_content=record_content)
    return lock, ()


def _no_replacement(missing: Sequence[ArtifactGone]) -> FetchError:
    lines = "\n".join(f"- {error.message}" for error in missing)
    subject = "An archive" if len(missing) == 1 else f"{len(missing)} archives"
    return FetchError(
        f"{subject} that the lock file names can't be had any more:\n{lines}",
        hint="Lock again, where the environment is: imagesync lock -o conda-lock.yml\n"
        "Or put what is missing into a package cache (pkgs_dirs).",
    )


def _checked(lock: Lock, files: tuple[StoredFile, ...]) -> Lock:
    """Return *lock* with the distributions that the archives really have."""
    packages = tuple(
        replace(package, distributions=info.distributions)
        for package, info in zip(lock.conda, read_archives(files), strict=True)
    )
    refuse_duplicates(packages, [*(p.name for p in lock.packages), *(p.name for p in lock.vendored)])
    return replace(lock, conda=packages)
