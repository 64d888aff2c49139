"""The interface to conda's channels: requests, virtual packages, and the solver protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from imagesync.lock.lock import Deviation, Target
from imagesync.lock.locked_packages import LockedConda

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.indexes.conda.conda_configuration import ChannelPriority
    from imagesync.plan.plan import PlannedConda
    from imagesync.scan.environment import CondaRecord

# An image has no kernel. Containers have run on this one for years, and conda-lock assumes it.
_LINUX = "5.10"


@dataclass(frozen=True)
class VirtualPackage:
    """A property of a machine that packages depend on: its C library, kernel or driver (``__glibc`` ...)."""

    name: str
    version: str
    build: str = "0"


def virtual_packages(target: Target, *, cuda: str = "") -> tuple[VirtualPackage, ...]:
    """Return the virtual packages of *target*; nothing depends on the local machine.

    *cuda* is the CUDA version that the drivers of the cluster's machines support, such as ``12.4``.

    >>> from imagesync.core.platforms import LINUX_AMD64
    >>> target = Target(LINUX_AMD64, "3.11.7", (2, 36))
    >>> [f"{package.name}={package.version}" for package in virtual_packages(target, cuda="12.4")]
    ['__glibc=2.36', '__linux=5.10', '__unix=0', '__archspec=1', '__cuda=12.4']
    """
    packages = (
        VirtualPackage("__glibc", ".".join(map(str, target.glibc))),
        VirtualPackage("__linux", _LINUX),
        VirtualPackage("__unix", "0"),
        VirtualPackage("__archspec", "1", target.platform.machine),
    )
    return (*packages, VirtualPackage("__cuda", cuda)) if cuda else packages


@dataclass(frozen=True)
class CondaRequest:
    """A request to a solver.

    Parameters
    ----------
    specs
        Match specs that must be met, such as ``numpy ~=1.26.4``.
    virtual_packages
        Those of the image.
    constraints
        Match specs that limit packages without requiring them.
    frozen
        Packages that stay exactly as they are, whether a channel has them or not.
    preferred
        Packages to prefer if *specs* and *constraints* allow them.
    externally_provided
        Packages that satisfy dependencies but aren't conda's, and aren't part of a solution.
    timeout
        In seconds; ``None`` for no limit.
    """

    specs: tuple[str, ...]
    virtual_packages: tuple[VirtualPackage, ...]
    constraints: tuple[str, ...] = ()
    frozen: tuple[LockedConda, ...] = ()
    preferred: tuple[LockedConda, ...] = ()
    externally_provided: tuple[LockedConda, ...] = ()
    timeout: float | None = 120.0


@dataclass(frozen=True)
class CondaResult:
    """The locked conda packages.

    Parameters
    ----------
    packages
        Sorted by conda name.
    deviations
        Differences from the local environment.
    missing
        Installed packages that no channel has, to be replaced by their installed files.
    channels
        URLs of the channels, the preferred one first.
    """

    packages: tuple[LockedConda, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    missing: tuple[PlannedConda, ...] = ()
    channels: tuple[str, ...] = ()

    def target(self, target: Target) -> Target:
        """Return *target* with the interpreter among the packages, if there is one."""
        python = next((package for package in self.packages if package.name == "python"), None)
        return target if python is None else replace(target, python_version=python.version)


class CondaSolver(Protocol):
    """A solver for the user's channels, for the platform of the image."""

    @property
    def platform(self) -> Platform:
        """Return the platform of the image."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the URLs of the channels without credentials, the preferred one first."""

    @property
    def cuda(self) -> str:
        """Return the CUDA version that the drivers of the cluster's machines support; empty for none."""

    @property
    def priority(self) -> ChannelPriority:
        """Return conda's setting ``channel_priority``."""

    @property
    def pins(self) -> tuple[str, ...]:
        """Return the match specs that limit packages that aren't frozen."""

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str] | None = None
    ) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return the packages of the channels by name, oldest first; unknown names are omitted.

        Parameters
        ----------
        names
            Conda names.
        subdirs
            Subdirectories of the channels, such as that of the local platform; by default those of the image.

        Raises
        ------
        LockError
            A channel doesn't answer.
        """

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return the packages that satisfy *request*, dependencies included, sorted by name.

        Raises
        ------
        UnsolvableError
            There is no solution; the message is the solver's explanation.
        LockError
            A channel doesn't answer.
        """

    def has_archive(self, package: LockedConda) -> bool:
        """Return True if the archive of *package* is in the store or in a package cache."""

    def digest(self, record: CondaRecord) -> str:
        """Return ``sha256:<hex>`` of the archive of a record without one, checked by its MD5.

        Raises
        ------
        FetchError
            The archive can't be fetched.
        """
