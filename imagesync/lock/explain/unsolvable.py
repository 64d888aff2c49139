"""Explaining why Python packages conflict, with remedies."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from imagesync.core.names import Level, canonical_name
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.explain.conflicts import Unanswered, contradiction, explain, way_out
from imagesync.lock.explain.constraints import Constraint, Kind
from imagesync.plan.install_commands import install_command
from imagesync.plan.specifiers import compatible, parse_version

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
    from imagesync.plan.plan import Plan, PlannedPackage

# The time limit of the search for the smallest remedies, in seconds.
SEARCH_SECONDS = {"uv": 10.0, "pip-tools": 20.0}
# Search for other versions of at most this many relaxed packages; of more, only check the rest.
_FEW = 3
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Remedy:
    """Constraints whose relaxing makes a request solvable.

    Parameters
    ----------
    constraints
        The constraints to relax.
    versions
        The versions that would do, by name; names without a known version are omitted.
    """

    constraints: tuple[Constraint, ...]
    versions: Mapping[NormalizedName, str]


def with_explanation(
    summary: str,
    error: UnsolvableError,
    constraints: Sequence[Constraint],
    *,
    request: ResolutionRequest,
    resolver: Resolver,
    plan: Plan,
    hint: str,
) -> UnsolvableError:
    """Return *error* with the user's packages that conflict, and the smallest remedies.

    *summary* begins the message, and the resolver's reason follows. *request* has the target and the
    preferred versions, without the constraints. *hint* is used if no remedy is found in time.
    """
    seconds = SEARCH_SECONDS[resolver.name]
    search = _Search(tuple(constraints), request, resolver, time.monotonic() + seconds)
    suspects = _suspects(constraints, error.message)
    found = explain(constraints, search.solvable, seconds=seconds, suspects=suspects)
    # The order of a resolver's reasons varies; the message has the order of the constraints.
    order = {id(each): number for number, each in enumerate(constraints)}
    conflict = sorted(found.conflict, key=lambda each: order[id(each)])
    remedies = sorted([sorted(order[id(each)] for each in remedy) for remedy in found.remedies])
    names = {each.name for each in conflict}
    return UnsolvableError(
        f"{summary}: {error.message}"
        + contradiction([each.describe(names) for each in conflict], request.target.platform.name),
        hint=_hint([search.remedy([constraints[number] for number in remedy]) for remedy in remedies], plan)
        or hint,
    )


def _suspects(constraints: Sequence[Constraint], message: str) -> list[Constraint]:
    """Return the constraints on packages that the resolver's message names."""
    words = {canonical_name(word.rstrip(".-_")) for word in _WORD.findall(message.lower())}
    return [
        each
        for each in constraints
        if each.name in words or not words.isdisjoint(map(_constrained, each.holds.constraints))
    ]


def _constrained(line: str) -> NormalizedName:
    match = _WORD.match(line.lower())
    return canonical_name(match[0] if match is not None else line)


class _Search:
    def __init__(
        self,
        constraints: tuple[Constraint, ...],
        request: ResolutionRequest,
        resolver: Resolver,
        deadline: float,
    ) -> None:
        self._constraints = constraints
        self._request = replace(request, versions_only=True)
        self._resolver = resolver
        self._deadline = deadline
        self._versions: dict[frozenset[int], Mapping[NormalizedName, str]] = {}

    def solvable(self, kept: Sequence[Constraint]) -> bool:
        """Return True if there is a solution with the constraints *kept*, and all others relaxed."""
        holding = set(map(id, kept))
        relaxed = [each for each in self._constraints if id(each) not in holding]
        if not kept:
            return True
        if len(relaxed) > _FEW:
            return self._resolve(holding) is not None
        sought = frozenset(map(id, relaxed))
        found = self._resolve(holding, sought=sought)
        if found is not None:
            self._versions[sought] = found
            return True
        # An addition may be omitted; an installed package needs some version.
        installed = {id(each) for each in relaxed if each.kind is not Kind.ADDED}
        return len(installed) < len(relaxed) and self._resolve(holding, sought=installed) is not None

    def remedy(self, relaxed: Sequence[Constraint]) -> Remedy:
        """Return the remedy of relaxing *relaxed*, with the versions that would do."""
        found = self._versions.get(frozenset(map(id, relaxed)), {})
        local = {each.name: each.planned.version for each in relaxed}
        return Remedy(
            tuple(relaxed),
            {name: found[name] for name in local if found.get(name, local[name]) != local[name]},
        )

    def _resolve(
        self, holding: Collection[int], *, sought: Collection[int] = ()
    ) -> Mapping[NormalizedName, str] | None:
        """Return the versions of a solution; ``None`` if there is none.

        Parameters
        ----------
        holding, sought
            The ids of constraints that hold, and of those whose packages need another version.

        Raises
        ------
        Unanswered
            The time limit is reached, or an index doesn't answer.
        """
        parts = [
            each.holds if id(each) in holding else each.another if id(each) in sought else each.relaxed
            for each in self._constraints
        ]
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Unanswered
        request = replace(
            self._request,
            requirements=tuple(line for part in parts for line in part.requirements),
            constraints=tuple(line for part in parts for line in part.constraints),
            vendored=tuple(package for part in parts for package in part.vendored),
            wheels_only=tuple(name for part in parts for name in part.wheels_only),
            timeout=left,
        )
        try:
            return {package.name: package.version for package in self._resolver.resolve(request)}
        except UnsolvableError:
            return None
        except LockError as error:
            raise Unanswered from error


def _hint(remedies: Sequence[Remedy], plan: Plan) -> str:
    """Return the hint for *remedies*, with the steps of each; empty if there are none."""
    changed, made, without = [], [], []
    for remedy in remedies:
        names = [each.name for each in remedy.constraints]
        if out := _left_out(remedy):
            without += out
        elif any(each.kind is Kind.MADE for each in remedy.constraints):
            made.append(" and ".join(names))
        else:
            changed.append(names)
    lines = [way_out(changed)] if changed else []
    if made:
        lines.append(f"It can be solved by other requirements of {' or '.join(made)}.")
    if without:
        lines.append(f"It can be solved without {' or '.join(dict.fromkeys(without))}.")
    for remedy in remedies:
        # For additions that can only be omitted there are no further steps.
        if len(_left_out(remedy)) < len(remedy.constraints):
            names = [each.name for each in remedy.constraints]
            lines.append(f"- {' and '.join(names)}: {'; and '.join(_steps(remedy, plan))}")
    return "\n".join(lines)


def _left_out(remedy: Remedy) -> list[NormalizedName]:
    return [e.name for e in remedy.constraints if e.kind is Kind.ADDED and e.name not in remedy.versions]


def _steps(remedy: Remedy, plan: Plan) -> Iterator[str]:
    """Yield the steps of *remedy*; the same step for several packages is one command."""
    levels, installs, conda, made = [], [], [], []
    for constraint in remedy.constraints:
        version = remedy.versions.get(constraint.name, "")
        if constraint.kind is Kind.ADDED:
            yield (
                f"'{constraint.name}=={version}' in add.pip, or nothing of it"
                if version
                else "leave it out of add.pip"
            )
        elif constraint.kind is Kind.MADE:
            made.append(constraint.name)
        elif constraint.kind is Kind.CONDA:
            installed = constraint.planned.installed
            name = installed.conda if installed is not None else constraint.name
            conda.append(f"{name}={version}" if version else name)
        elif constraint.kind is Kind.LIMITED and not plan.strict and _in_series(constraint.planned, version):
            levels += ["--level", f"{constraint.name}=compatible"]
        else:
            installs.append(f"{constraint.name}=={version}" if version else constraint.name)
    if made:
        verb, whose = ("requires", "its") if len(made) == 1 else ("require", "their")
        yield f"change what {' and '.join(made)} {verb} in {whose} sources"
    if levels:
        yield " ".join(levels)
    if installs:
        upgrade = () if all("==" in line for line in installs) else ("--upgrade",)
        yield install_command(plan, installs, *upgrade)
    if conda:
        yield shlex.join(["conda", "install", "--prefix", plan.python.prefix, *conda])


def _in_series(planned: PlannedPackage, version: str) -> bool:
    """Return True if the level ``compatible`` would allow *version*, unlike the level of the package."""
    local = parse_version(planned.version)
    if local is None or not version or planned.level is Level.COMPATIBLE:
        return False
    return SpecifierSet(compatible(local)).contains(version, prereleases=True)
