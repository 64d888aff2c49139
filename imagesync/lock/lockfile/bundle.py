"""A lock with what only this machine has of it: what somebody elsewhere needs beside the lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagesync.lock.lock import Artifact, Lock
from imagesync.plan.plan import Plan

if TYPE_CHECKING:
    from imagesync.store.store import StoredFile

WHEELS, ARCHIVES = "wheels", "packages"


@dataclass(frozen=True)
class Frozen:
    """A lock that needs nothing of this machine any more.

    Parameters
    ----------
    lock
        Wheels made on this machine have the versions that they were built with.
    files
        What comes from no server, by where it lies beside the lock file: ``wheels/mine-1.0.whl``.
    wheels
        The wheels made on this machine, by canonical name.
    md5
        Of each conda package, in hex: conda's own tools check by it.
    """

    plan: Plan
    lock: Lock
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    wheels: Mapping[str, StoredFile] = field(default_factory=dict)
    md5: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> dict[str, str]:
        """Return where each of the files lies beside the lock file, by digest."""
        return {file.digest: place for place, file in self.files.items()}


def is_local(artifact: Artifact) -> bool:
    """Return whether an artifact lies on this machine, and nobody else can fetch it."""
    return artifact.url.startswith("file:")
