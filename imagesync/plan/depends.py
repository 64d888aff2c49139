"""Who needs what, across pip and conda.

A conda package needs what its record says (``depends``); what its distributions say in their own metadata
doesn't count, because who packaged them decided otherwise where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.core.names import Level, canonical_name
from imagesync.plan.candidate import Key
from imagesync.plan.requirements import closure, requirers

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import CondaRecord, Environment

# A match spec begins with the name, unless it names a channel.
_SPEC_NAME = re.compile(r"(?:[^\s\[]*::)?\s*([A-Za-z0-9_][A-Za-z0-9_.-]*)")


@dataclass(frozen=True)
class Outside:
    """A conda package that others depend on, and that the image doesn't get from conda.

    Parameters
    ----------
    version, build
        Those that conda has of it here, else pip's version.
    """

    name: str
    version: str
    build: str = "0"


def outside_of(plan: Plan) -> tuple[Outside, ...]:
    """Return what conda packages of *plan* depend on and no solver may bring back, sorted by name.

    That is what pip has replaced, what pip provides since conda's was taken away (``conda remove --force``),
    and what the user leaves out.
    """
    found = {record.name: Outside(record.name, record.version, record.build) for record in plan.replaced}
    for left_out in plan.left_out:
        if left_out.manager == "conda" and left_out.level is Level.IGNORE:
            found[left_out.name] = Outside(left_out.name, left_out.version)
    pip = {package.name: package.version for package in plan.packages if package.name != "python"}
    conda = {package.name for package in plan.conda}
    for package in plan.conda:
        for name in dependency_names(package.record) if package.record is not None else ():
            if name not in conda and name not in found and canonical_name(name) in pip:
                found[name] = Outside(name, pip[canonical_name(name)])
    return tuple(found[name] for name in sorted(found))


def dependency_names(record: CondaRecord) -> Iterator[str]:
    """Yield the conda names of what *record* depends on, virtual packages (``__glibc``) left out."""
    for spec in record.depends:
        match = _SPEC_NAME.match(spec)
        if match and not match[1].startswith("__"):
            yield match[1].lower()


def requirers_of(
    environment: Environment,
    left_out: Collection[Key],
    markers: Mapping[str, str],
    *,
    foreign: Collection[Key] = (),
) -> dict[Key, list[str]]:
    """Return for each of those *left_out* that is needed the names of who stays and needs it.

    Parameters
    ----------
    foreign
        What is of another platform, so that a conda package's need of it there doesn't count.
    """
    names: dict[NormalizedName, Key] = {}
    staying = []
    for package in environment.packages:
        key: Key = ("conda", package.conda) if package.conda else ("pip", package.name)
        if key in left_out:
            names[package.name] = key
        elif not package.conda:
            staying.append(package)
    found: dict[Key, list[str]] = {}
    for name, by in requirers(staying, names, markers).items():
        found.setdefault(names[name], []).extend(map(str, by))
    records = {record.name for record in environment.conda}
    for record in environment.conda:
        if ("conda", record.name) in left_out:
            continue
        for dependency in dict.fromkeys(dependency_names(record)):
            key = _key(dependency, records)
            if key in left_out and key not in foreign:
                found.setdefault(key, []).append(record.name)
    return {key: list(dict.fromkeys(by)) for key, by in found.items()}


def closure_of(environment: Environment, roots: Iterable[Key], markers: Mapping[str, str]) -> frozenset[Key]:
    """Return *roots* and everything installed that they need, of pip and of conda."""
    packages = {package.name: package for package in environment.packages if not package.conda}
    owners = {package.name: package.conda for package in environment.packages if package.conda}
    records = {record.name: record for record in environment.conda}
    kept = frozenset(roots)
    while True:
        reached = closure(
            packages, {canonical_name(name) for manager, name in kept if manager == "pip"}, markers
        )
        wider = set(kept)
        wider.update(("conda", owners[name]) if name in owners else ("pip", name) for name in reached)
        for manager, name in tuple(wider):
            if manager == "conda" and name in records:
                wider.update(_key(dependency, records) for dependency in dependency_names(records[name]))
        if wider == kept:
            return kept
        kept = frozenset(wider)


def _key(dependency: str, records: Collection[str]) -> Key:
    """Return whose *dependency* of a conda package is: pip's, where pip has replaced conda's."""
    return ("conda", dependency) if dependency in records else ("pip", canonical_name(dependency))
