"""Fetching what a lock has from channels; what isn't there any more is found only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesync.errors import ArtifactGone
from imagesync.lock.lock import Lock
from imagesync.store.store import StoredFile

if TYPE_CHECKING:
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.hold import InstalledContent


def fetch_archives(
    lock: Lock, *, channels: Channels, installed_content: InstalledContent
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the archives of the conda packages of *lock*, in their order, and the lock as it is then.

    Parameters
    ----------
    installed_content
        Gives the digest of a package's installed files, if they hold for the target.

    Raises
    ------
    FetchError
        An archive can't be had, and nothing can take its place.
    """
    found = channels.archives(lock.conda).obtain(lock.conda)
    for file in found:
        if isinstance(file, ArtifactGone):
            raise file
    return lock, tuple(file for file in found if isinstance(file, StoredFile))
