"""The seam to conda's channels: what they have, and which of it goes together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imagesync.lock.lock import LockedConda

if TYPE_CHECKING:
    from imagesync.scan.environment import CondaRecord


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
    """

    specs: tuple[str, ...]
    virtual_packages: tuple[VirtualPackage, ...]
    constraints: tuple[str, ...] = ()
    held: tuple[LockedConda, ...] = ()
    preferred: tuple[LockedConda, ...] = ()


class CondaSolver(Protocol):
    """What answers from the user's channels, for linux-64 and noarch."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels' URLs without credentials, first the one that wins."""

    def available(self, names: Iterable[str]) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return what the channels have of each of *names*, oldest first; nothing for a name they don't have.

        Of a name that several channels have, only what the first of them has counts.

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

    def digest(self, record: CondaRecord) -> str:
        """Return ``sha256:<hex>`` of the archive of a record that has none; it is checked by its MD5.

        Raises
        ------
        FetchError
            The archive can't be had.
        """
