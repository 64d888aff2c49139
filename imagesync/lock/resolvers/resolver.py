"""The seam to resolvers: one question, one answer, whoever answers it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from imagesync.lock.lock import LockedPackage, Target
from imagesync.plan.plan import PlannedPackage

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.indexes.pypi.pip_configuration import IndexConfiguration


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
    wheels_only
        Packages of which no sdist will do: an index may have anything under the name of what isn't its own,
        and nothing of that is run.
    versions_only
        Whether the answer is to say which versions, and no more: artifacts and digests may be missing.
    timeout
        How many seconds the answer may take; ``None`` for any time.
    """

    target: Target
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    preferred: Mapping[NormalizedName, str] = field(default_factory=dict)
    vendored: tuple[PlannedPackage, ...] = ()
    dependencies: bool = False
    wheels_only: tuple[NormalizedName, ...] = ()
    versions_only: bool = False
    timeout: float | None = None


class Resolver(Protocol):
    """What answers a :class:`ResolutionRequest` from the user's indexes."""

    @property
    def name(self) -> Literal["uv", "pip-tools"]:
        """Return the name that a lock carries."""

    @property
    def indexes(self) -> IndexConfiguration:
        """Return the indexes that are asked, with their credentials."""

    def silent_indexes(self, project: NormalizedName) -> tuple[str, ...]:
        """Return those of the configured indexes, without credentials, that don't answer at all.

        Parameters
        ----------
        project
            Whose page is asked for; an index that refuses it, or hasn't it, answers.
        """

    def without(self, urls: Collection[str]) -> Resolver:
        """Return a resolver that asks the other indexes only; *urls* are without credentials."""

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
            No answer could be had, such as from an index that can't be reached, or not in time.
        """
