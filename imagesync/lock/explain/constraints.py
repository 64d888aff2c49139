"""Constraints that the user's packages put on a resolver, each with its relaxed forms."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from imagesync.plan.plan import PlannedPackage
from imagesync.plan.requirements import requirements_on

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.resolve_installed import Resolved


class Kind(Enum):
    """The kind of a constraint, which decides about its remedies."""

    ADDED = auto()
    INSTALLED = auto()
    LIMITED = auto()
    CONDA = auto()
    MADE = auto()


@dataclass(frozen=True)
class RequestPart:
    """The part of a constraint in a :class:`~imagesync.lock.resolvers.resolver.ResolutionRequest`."""

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    vendored: tuple[PlannedPackage, ...] = ()
    wheels_only: tuple[NormalizedName, ...] = ()


@dataclass(frozen=True)
class Constraint:
    """A package that limits the solutions of a resolver.

    Parameters
    ----------
    kind
        Decides about the remedies.
    planned
        The package.
    line
        The requirement as the user would write it.
    holds, relaxed, another
        The part of a request if the constraint holds; if it is relaxed; and to find another version.
    markers
        The marker values of the image.
    """

    kind: Kind
    planned: PlannedPackage
    line: str
    holds: RequestPart
    relaxed: RequestPart = field(default_factory=RequestPart)
    another: RequestPart = field(default_factory=RequestPart)
    markers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> NormalizedName:
        """Return the canonical name."""
        return self.planned.name

    def describe(self, others: Collection[NormalizedName]) -> str:
        """Return the constraint for a list, with its requirements on *others*."""
        if self.kind is Kind.ADDED:
            return f"{self.line} (add.pip)"
        planned = self.planned
        conda = planned.installed.conda if planned.installed is not None else ""
        origin = {
            Kind.INSTALLED: "installed here",
            Kind.LIMITED: f"{planned.level.value}: {self.line.removeprefix(planned.name)}",
            Kind.CONDA: f"conda's {conda}" if conda and conda != planned.name else "conda's",
            Kind.MADE: "made on this machine",
        }[self.kind]
        requested = ", which you asked for" if planned.requested else ""
        return f"{planned.name} {planned.version} ({origin}{self._required(others)}){requested}"

    def _required(self, others: Collection[NormalizedName]) -> str:
        if self.planned.installed is None or self.kind is Kind.CONDA:
            return ""
        names = {name for name in others if name != self.name}
        lines = {
            f"{r.name}{r.specifier}" for r in requirements_on(self.planned.installed, self.markers, names)
        }
        return f"; it requires {', '.join(sorted(lines))}" if lines else ""


def added(package: PlannedPackage, line: str) -> Constraint:
    """Return the constraint of an addition of 'add.pip', which is relaxed by omitting it."""
    bare = line.removesuffix(package.specifier)
    another = RequestPart((bare,)) if package.specifier else RequestPart()
    return Constraint(Kind.ADDED, package, line, RequestPart((line,)), another=another)


def pinned(resolved: Resolved, pin: str, required: Iterable[str], markers: Mapping[str, str]) -> Constraint:
    """Return the constraint of an installed package that keeps its version, with its requirements."""
    holds, another = RequestPart(constraints=(pin, *required)), RequestPart((resolved.planned.name,))
    return Constraint(Kind.INSTALLED, resolved.planned, pin, holds, another=another, markers=markers)


def limited(resolved: Resolved, line: str, markers: Mapping[str, str]) -> Constraint:
    """Return the constraint of an installed package with the versions that its level allows."""
    extras = f"[{','.join(resolved.planned.extras)}]" if resolved.planned.extras else ""
    another = RequestPart((f"{resolved.planned.name}{extras}",))
    return Constraint(
        Kind.LIMITED, resolved.planned, line, RequestPart((line,)), another=another, markers=markers
    )


def present(package: PlannedPackage, markers: Mapping[str, str]) -> Constraint:
    """Return the constraint of a package that needs no index: made on this machine, or from conda."""
    holds = RequestPart(vendored=(package,))
    if not package.vendored and (package.installed is None or package.installed.conda):
        relaxed = RequestPart(wheels_only=(package.name,))
        another = RequestPart((package.name,), wheels_only=(package.name,))
        return Constraint(Kind.CONDA, package, package.name, holds, relaxed, another, markers)
    kind = Kind.MADE if package.vendored else Kind.INSTALLED
    if package.installed is None:
        return Constraint(kind, package, package.name, holds, holds, holds, markers)
    free = RequestPart(vendored=(replace(package, installed=replace(package.installed, requires=())),))
    return Constraint(kind, package, package.name, holds, free, free, markers)
