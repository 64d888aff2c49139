"""What a user's packages ask of a resolver, one entry each, and what is asked once an entry gives way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from imagesync.plan.plan import PlannedPackage
from imagesync.plan.requirements import requirements_on

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.resolve_installed import Held


class Kind(Enum):
    """What an entry is, and so what its user can do about it."""

    ADDED = auto()
    INSTALLED = auto()
    LIMITED = auto()
    CONDA = auto()
    MADE = auto()


@dataclass(frozen=True)
class Asked:
    """An entry's part in a :class:`~imagesync.lock.resolvers.resolver.ResolutionRequest`."""

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    vendored: tuple[PlannedPackage, ...] = ()
    wheels_only: tuple[NormalizedName, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A package of the user's that a resolver has to respect.

    Parameters
    ----------
    line
        What is asked for, as the user would write it.
    holds, relaxed, another
        What it asks while it holds; once it gives way; and to learn which other version would do.
    markers
        The image's marker values.
    """

    kind: Kind
    planned: PlannedPackage
    line: str
    holds: Asked
    relaxed: Asked = field(default_factory=Asked)
    another: Asked = field(default_factory=Asked)
    markers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> NormalizedName:
        """Return the canonical name."""
        return self.planned.name

    def describe(self, others: Collection[NormalizedName]) -> str:
        """Return the entry for a list, with what it requires of *others*."""
        if self.kind is Kind.ADDED:
            return f"{self.line} (add.pip)"
        planned = self.planned
        conda = planned.installed.conda if planned.installed is not None else ""
        what = {
            Kind.INSTALLED: "installed here",
            Kind.LIMITED: f"{planned.level.value}: {self.line.removeprefix(planned.name)}",
            Kind.CONDA: f"conda's {conda}" if conda and conda != planned.name else "conda's",
            Kind.MADE: "made on this machine",
        }[self.kind]
        asked = ", which you asked for" if planned.requested else ""
        return f"{planned.name} {planned.version} ({what}{self._required(others)}){asked}"

    def _required(self, others: Collection[NormalizedName]) -> str:
        if self.planned.installed is None or self.kind is Kind.CONDA:
            return ""
        wanted = {name for name in others if name != self.name}
        lines = {
            f"{r.name}{r.specifier}" for r in requirements_on(self.planned.installed, self.markers, wanted)
        }
        return f"; it requires {', '.join(sorted(lines))}" if lines else ""


def added(package: PlannedPackage, line: str) -> Entry:
    """Return the entry of what 'add.pip' asks for; it gives way by staying out."""
    bare = line.removesuffix(package.specifier)
    another = Asked((bare,)) if package.specifier else Asked()
    return Entry(Kind.ADDED, package, line, Asked((line,)), another=another)


def pinned(held: Held, pin: str, required: Iterable[str], markers: Mapping[str, str]) -> Entry:
    """Return the entry of an installed package that stays as it is, with what it requires of others."""
    holds, another = Asked(constraints=(pin, *required)), Asked((held.planned.name,))
    return Entry(Kind.INSTALLED, held.planned, pin, holds, another=another, markers=markers)


def limited(held: Held, line: str, markers: Mapping[str, str]) -> Entry:
    """Return the entry of an installed package that its level keeps within bounds."""
    extras = f"[{','.join(held.planned.extras)}]" if held.planned.extras else ""
    another = Asked((f"{held.planned.name}{extras}",))
    return Entry(Kind.LIMITED, held.planned, line, Asked((line,)), another=another, markers=markers)


def beside(package: PlannedPackage, markers: Mapping[str, str]) -> Entry:
    """Return the entry of what is there whatever an index has: made on this machine, or conda's."""
    holds = Asked(vendored=(package,))
    if not package.vendored and (package.installed is None or package.installed.conda):
        relaxed = Asked(wheels_only=(package.name,))
        another = Asked((package.name,), wheels_only=(package.name,))
        return Entry(Kind.CONDA, package, package.name, holds, relaxed, another, markers)
    kind = Kind.MADE if package.vendored else Kind.INSTALLED
    if package.installed is None:
        return Entry(kind, package, package.name, holds, holds, holds, markers)
    free = Asked(vendored=(replace(package, installed=replace(package.installed, requires=())),))
    return Entry(kind, package, package.name, holds, free, free, markers)
