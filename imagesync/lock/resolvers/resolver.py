"""The protocol of resolvers, and their requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from imagesync.lock.lock import LockedPackage, Target
from imagesync.plan.plan import PlannedPackage

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.indexes.pypi.index_configuration import IndexConfiguration
    from imagesync.indexes.pypi.index_problems import IndexProblem


@dataclass(frozen=True)
class ResolutionRequest:
    """A request to a resolver.

    Parameters
    ----------
    target
        The platform and interpreter of the image.
    requirements
        PEP 508 requirements.
    constraints
        Requirements that limit packages without requiring them.
    preferred
        Versions to prefer if requirements and constraints allow them.
    vendored
        Packages that are present, with the requirements of their metadata; no index is asked for them.
    dependencies
        Include dependencies; otherwise each requirement is resolved alone.
    wheels_only
        Packages whose sdists must not be used: code from an index under the name of a local package must
        not run.
    versions_only
        Only the versions are needed: artifacts and digests may be missing.
    timeout
        In seconds; ``None`` for no limit.
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
    """A resolver that answers a :class:`ResolutionRequest` from the user's indexes."""

    @property
    def name(self) -> Literal["uv", "pip-tools"]:
        """Return the name for the lock."""

    @property
    def indexes(self) -> IndexConfiguration:
        """Return the indexes with their credentials."""

    def index_problems(self, project: str) -> tuple[IndexProblem, ...]:
        """Return the configured indexes that can't be used, each with the reason.

        Parameters
        ----------
        project
            The project to ask for. An index that lacks it can be used.
        """

    def without(self, urls: Collection[str]) -> Resolver:
        """Return a resolver without the indexes *urls*, which have no credentials."""

    def check(self, target: Target) -> None:
        """Check that this resolver supports *target*.

        Raises
        ------
        LockError
            It doesn't; the hint names alternatives.
        """

    def resolve(self, request: ResolutionRequest) -> tuple[LockedPackage, ...]:
        """Return the packages that satisfy *request*, each with the artifact that fits the target best.

        Raises
        ------
        UnsolvableError
            There is no solution; the message is the resolver's explanation.
        LockError
            There is no answer: an index can't be reached, or the time limit is exceeded.
        """
