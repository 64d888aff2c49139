"""The seam to conda's channels: what they have, and which of it goes together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from imagesync.lock.lock import LockedConda

if TYPE_CHECKING:
    from imagesync.indexes.conda.configuration import ChannelPriority
    from imagesync.scan.environment import CondaRecord

IMAGE_SUBDIRS: Final = ("linux-64", "noarch")


@dataclass(frozen=True)
class VirtualPackage:
    """Something that a machine has and no channel: its C library, its kernel, a driver (``__glibc`` ...)."""

    name: str
    version: str
    build: str = "0"


@dataclass(frozen=True)
class CondaRequest:
    """What a solver is asked.

    Parameters
    ----------
    specs
        Match specs that all have to be met, such as ``numpy ~=1.26.4``.
    constraints
        Match specs that hold for a package if it comes in.
    held
        Packages that are there and stay exactly as they are, whether a channel has them or not.
    preferred
        Packages to take wherever *specs* and *constraints* allow them.
    outside
        What something else than conda provides: it satisfies what depends on it, and is part of no answer.
    timeout
        In seconds.
    """

    specs: tuple[str, ...]
    virtual_packages: tuple[VirtualPackage, ...]
    constraints: tuple[str, ...] = ()
    held: tuple[LockedConda, ...] = ()
    preferred: tuple[LockedConda, ...] = ()
    outside: tuple[LockedConda, ...] = ()
    timeout: float | None = 120.0


class CondaSolver(Protocol):
    """What answers from the user's channels, for linux-64 and noarch."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels' URLs without credentials, first the one that wins."""

    @property
    def cuda(self) -> str:
        """Return the version of CUDA that the cluster's machines have a driver for; empty for none."""

    @property
    def priority(self) -> ChannelPriority:
        """Return whether a name's first channel is its only one, its first choice, or one of equals."""

    @property
    def pins(self) -> tuple[str, ...]:
        """Return match specs that hold for whatever isn't held as it is."""

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str] = IMAGE_SUBDIRS
    ) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return what the channels have of each of *names*, oldest first; nothing for a name they don't have.

        Parameters
        ----------
        subdirs
            Of the channels: those of the image, or that of the user's machine.

        Raises
        ------
        LockError
            A channel doesn't answer.
        """

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return the packages that satisfy *request*, with all that they need, sorted by name.

        Raises
        ------
        UnsolvableError
            Nothing does; the message is the solver's own chain of reasons.
        LockError
            A channel doesn't answer.
        """

    def has_archive(self, package: LockedConda) -> bool:
        """Return whether the archive of *package* is on this machine: in the store or in a package cache."""

    def digest(self, record: CondaRecord) -> str:
        """Return ``sha256:<hex>`` of the archive of a record that has none; it is checked by its MD5.

        Raises
        ------
        FetchError
            The archive can't be had.
        """
