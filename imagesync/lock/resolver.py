"""The seam to resolvers: one question, one answer, whoever answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from packaging.utils import NormalizedName

from imagesync.lock.lock import LockedPackage, Target
from imagesync.plan.plan import PlannedPackage


@dataclass(frozen=True)
class ResolutionRequest:
    """What a resolver is asked.

    Parameters
    ----------
    requirements
        What must be there, as PEP 508 requirements.
    constraints
        What holds for a package if it comes in.
    preferred
        Versions to take wherever requirements and constraints allow them.
    vendored
        Packages that are made on this machine: they are there, they need what their metadata says,
        and no index is asked for them.
    dependencies
        Whether what the requirements need comes in as well; otherwise each requirement stands alone.
    """

    target: Target
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    preferred: Mapping[NormalizedName, str] = field(default_factory=dict)
    vendored: tuple[PlannedPackage, ...] = ()
    dependencies: bool = False


class Resolver(Protocol):
    """What answers a :class:`ResolutionRequest` from the user's indexes."""

    @property
    def name(self) -> Literal["uv", "pip-tools"]:
        """Return the name that a lock carries."""

    def check(self, target: Target) -> None:
        """Return where this resolver can answer for *target*.

        Raises
        ------
        LockError
            It can't; the hint says what can.
        """

    def resolve(self, request: ResolutionRequest) -> tuple[LockedPackage, ...]:
        """Return the packages from indexes, each with the artifact that fits the target best.

        Raises
        ------
        UnsolvableError
            Nothing satisfies the request; the message is the resolver's own reason.
        LockError
            No answer could be had, such as from an index that can't be reached.
        """
