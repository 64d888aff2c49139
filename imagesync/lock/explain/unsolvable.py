"""Saying why Python packages can't be had together, and what would help."""

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
from imagesync.lock.explain.constraints import Entry, Kind
from imagesync.plan.install_commands import install_command_for
from imagesync.plan.specifiers import compatible, parse_version

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
    from imagesync.plan.plan import Plan, PlannedPackage

# How long to look for the smallest remedies, in seconds.
_SECONDS = {"uv": 10.0, "pip-tools": 20.0}
# Of so many that give way it is asked which other versions would do; of more only whether the rest fits.
_FEW = 3
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Remedy:
    """Entries whose giving way makes a request solvable.

    Parameters
    ----------
    versions
        What each would become, by name; nothing for those of which no other version fits, or none was found.
    """

    entries: tuple[Entry, ...]
    versions: Mapping[NormalizedName, str]


def explained(
    said: str,
    error: UnsolvableError,
    entries: Sequence[Entry],
    *,
    request: ResolutionRequest,
    resolver: Resolver,
    plan: Plan,
    hint: str,
) -> UnsolvableError:
    """Return *error* with the user's packages that take part, and the smallest remedies.

    Parameters
    ----------
    said
        What can't be done; the resolver's reason is put after it.
    entries
        What the resolver was asked.
    request
        The target and what is preferred, without the entries.
    hint
        What to do where no remedy is found in time.
    """
    seconds = _SECONDS[resolver.name]
    search = _Search(tuple(entries), request, resolver, time.monotonic() + seconds)
    named = _named(entries, error.message)
    found = explain(entries, search.solvable, seconds=seconds, suspects=named)
    # Resolvers don't always name the same reason first; what is said of it has one order.
    order = {id(entry): number for number, entry in enumerate(entries)}
    conflict = sorted(found.conflict, key=lambda entry: order[id(entry)])
    remedies = sorted([sorted(order[id(entry)] for entry in remedy) for remedy in found.remedies])
    names = {entry.name for entry in conflict}
    return UnsolvableError(
        f"{said}: {error.message}"
        + contradiction([entry.describe(names) for entry in conflict], request.target.platform),
        hint=_hint([search.remedy([entries[number] for number in remedy]) for remedy in remedies], plan)
        or hint,
    )


def _named(entries: Sequence[Entry], message: str) -> list[Entry]:
    """Return those of *entries* that the resolver's reason names, and those that limit what it names."""
    words = {canonical_name(word.rstrip(".-_")) for word in _WORD.findall(message.lower())}
    return [
        entry
        for entry in entries
        if entry.name in words or not words.isdisjoint(map(_constrained, entry.holds.constraints))
    ]


def _constrained(line: str) -> NormalizedName:
    match = _WORD.match(line.lower())
    return canonical_name(match[0] if match is not None else line)


class _Search:
    def __init__(
        self, entries: tuple[Entry, ...], request: ResolutionRequest, resolver: Resolver, until: float
    ) -> None:
        self._entries = entries
        self._request = replace(request, versions_only=True)
        self._resolver = resolver
        self._until = until
        self._versions: dict[frozenset[int], Mapping[NormalizedName, str]] = {}

    def solvable(self, kept: Sequence[Entry]) -> bool:
        """Return whether there is an answer when *kept* hold, and all other entries give way."""
        holding = set(map(id, kept))
        gone = [entry for entry in self._entries if id(entry) not in holding]
        if not kept:
            return True
        if len(gone) > _FEW:
            return self._ask(holding) is not None
        sought = frozenset(map(id, gone))
        found = self._ask(holding, sought=sought)
        if found is not None:
            self._versions[sought] = found
            return True
        # What is added may stay out; what is installed here has to be there in some version.
        installed = {id(entry) for entry in gone if entry.kind is not Kind.ADDED}
        return len(installed) < len(gone) and self._ask(holding, sought=installed) is not None

    def remedy(self, gone: Sequence[Entry]) -> Remedy:
        """Return *gone* as a remedy, with the versions that would do."""
        found = self._versions.get(frozenset(map(id, gone)), {})
        here = {entry.name: entry.planned.version for entry in gone}
        return Remedy(
            tuple(gone), {name: found[name] for name in here if found.get(name, here[name]) != here[name]}
        )

    def _ask(
        self, holding: Collection[int], *, sought: Collection[int] = ()
    ) -> Mapping[NormalizedName, str] | None:
        """Return the versions that satisfy those entries, by their identities; ``None`` if none do.

        Raises
        ------
        Unanswered
            The time is over, or an index doesn't answer.
        """
        parts = [
            entry.holds if id(entry) in holding else entry.another if id(entry) in sought else entry.relaxed
            for entry in self._entries
        ]
        left = self._until - time.monotonic()
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
    """Return what helps, each remedy with what to do for it; nothing where there is none."""
    moved, made, without = [], [], []
    for remedy in remedies:
        names = [entry.name for entry in remedy.entries]
        if out := _left_out(remedy):
            without += out
        elif any(entry.kind is Kind.MADE for entry in remedy.entries):
            made.append(" and ".join(names))
        else:
            moved.append(names)
    lines = [way_out(moved)] if moved else []
    if made:
        lines.append(f"It can be solved by other requirements of {' or '.join(made)}.")
    if without:
        lines.append(f"It can be solved without {' or '.join(dict.fromkeys(without))}.")
    for remedy in remedies:
        # Of what can only stay out, no more is to be said.
        if len(_left_out(remedy)) < len(remedy.entries):
            names = [entry.name for entry in remedy.entries]
            lines.append(f"- {' and '.join(names)}: {'; and '.join(_ways(remedy, plan))}")
    return "\n".join(lines)


def _left_out(remedy: Remedy) -> list[NormalizedName]:
    return [e.name for e in remedy.entries if e.kind is Kind.ADDED and e.name not in remedy.versions]


def _ways(remedy: Remedy, plan: Plan) -> Iterator[str]:
    """Yield what to do for *remedy*, the same steps for several packages as one command."""
    levels, installs, conda, made = [], [], [], []
    for entry in remedy.entries:
        version = remedy.versions.get(entry.name, "")
        if entry.kind is Kind.ADDED:
            yield (
                f"'{entry.name}=={version}' in add.pip, or nothing of it"
                if version
                else "leave it out of add.pip"
            )
        elif entry.kind is Kind.MADE:
            made.append(entry.name)
        elif entry.kind is Kind.CONDA:
            installed = entry.planned.installed
            name = installed.conda if installed is not None else entry.name
            conda.append(f"{name}={version}" if version else name)
        elif entry.kind is Kind.LIMITED and not plan.strict and _in_series(entry.planned, version):
            levels += ["--level", f"{entry.name}=compatible"]
        else:
            installs.append(f"{entry.name}=={version}" if version else entry.name)
    if made:
        verb, whose = ("requires", "its") if len(made) == 1 else ("require", "their")
        yield f"change what {' and '.join(made)} {verb} in {whose} sources"
    if levels:
        yield " ".join(levels)
    if installs:
        upgrade = () if all("==" in line for line in installs) else ("--upgrade",)
        yield install_command_for(plan.python, installs, *upgrade, has_pip=_has_pip(plan))
    if conda:
        yield shlex.join(["conda", "install", "--prefix", plan.python.prefix, *conda])


def _in_series(planned: PlannedPackage, version: str) -> bool:
    """Return whether the level ``compatible`` would allow *version*, and the package's own doesn't."""
    local = parse_version(planned.version)
    if local is None or not version or planned.level is Level.COMPATIBLE:
        return False
    return SpecifierSet(compatible(local)).contains(version, prereleases=True)


def _has_pip(plan: Plan) -> bool:
    return "pip" in {p.name for part in (plan.packages, plan.left_out, plan.provided) for p in part}
