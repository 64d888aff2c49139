"""A lock with the files that only this machine has, for use on other machines."""

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
class Bundle:
    """A lock that no longer depends on this machine.

    Parameters
    ----------
    plan
        The plan of the lock.
    lock
        The lock, with the versions of the built wheels.
    files
        Files that no server has, by path relative to the lock file: ``wheels/mine-1.0.whl``.
    wheels
        The wheels made on this machine, by canonical name.
    md5
        The MD5 of each conda package in hex, which conda's tools check.
    """

    plan: Plan
    lock: Lock
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    wheels: Mapping[str, StoredFile] = field(default_factory=dict)
    md5: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> dict[str, str]:
        """Return the paths of the files relative to the lock file, by digest."""
        return {file.digest: path for path, file in self.files.items()}


def is_local(artifact: Artifact) -> bool:
    """Return True if an artifact is a local file, which no other machine can fetch."""
    return artifact.url.startswith("file:")
