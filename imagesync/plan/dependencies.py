"""Candidates: the installed packages that levels are chosen for, with dependencies across pip and conda.

A conda package is one candidate for all distributions that it provides, and answers to each of their names.
The dependencies of a conda package are those of its record (``depends``). The Python metadata of its
distributions doesn't count: where the two differ, the packager decided so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from imagesync.core.names import Level, canonical_name
from imagesync.plan.requirements import closure, requirers
from imagesync.scan.environment import CondaRecord, Environment, Manager, Package, SourceKind

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.plan.plan import Plan

# A match spec begins with the name, or with a channel.
_SPEC_NAME = re.compile(r"(?:[^\s\[]*::)?\s*([A-Za-z0-9_][A-Za-z0-9_.-]*)")
# The package manager and the name: one name may be two projects.
Key = tuple[Manager, str]


class Candidate(NamedTuple):
    """An installed package whose level is to be chosen.

    Parameters
    ----------
    key
        The package manager and the name.
    names
        The names that rules may use for it, in canonical form; the conda name comes first.
    requested
        Whether the user requested it; ``None`` if nothing records it.
    for_linux
        Whether the installed build is one for Linux.
    source
        The kind of source that it was installed from.
    is_refused
        Whether nothing is fetched from that source (:attr:`~imagesync.scan.environment.Source.refused`).
    """

    key: Key
    names: tuple[str, ...]
    requested: bool | None
    for_linux: bool
    source: SourceKind = "index"
    is_refused: bool = False


def candidates(environment: Environment) -> Iterator[Candidate]:
    """Yield the packages of *environment*, each once."""
    on_linux = environment.python.platform.startswith("linux")
    for package in environment.packages:
        if not package.conda:
            yield _pip_candidate(package)
    for record in environment.conda:
        yield _conda_candidate(record, on_linux=on_linux)


def _conda_names(record: CondaRecord) -> tuple[str, ...]:
    """Return the names of *record* in canonical form: the conda name, then the names of its distributions."""
    return tuple(dict.fromkeys((canonical_name(record.name), *record.distributions)))


def _pip_candidate(package: Package) -> Candidate:
    return Candidate(
        key=("pip", package.name),
        names=(package.name,),
        requested=package.requested,
        for_linux=any("linux" in tag.rpartition("-")[2] for tag in package.tags),
        source=package.source.kind,
        is_refused=package.source.refused is not None,
    )


def _conda_candidate(record: CondaRecord, *, on_linux: bool) -> Candidate:
    return Candidate(
        key=("conda", record.name),
        names=_conda_names(record),
        requested=bool(record.requested_spec),
        # A noarch package may still be of use on another platform only, as appnope is.
        for_linux=record.subdir.startswith("linux") or (on_linux and record.subdir == "noarch"),
    )


@dataclass(frozen=True)
class ExternalPackage:
    """A conda package that others depend on, and that something else than conda provides in the image.

    Parameters
    ----------
    name
        The conda name.
    version, build
        Those of the conda package, or else pip's version.
    """

    name: str
    version: str
    build: str = "0"


def externally_provided(plan: Plan) -> tuple[ExternalPackage, ...]:
    """Return the dependencies of conda packages in *plan* that no solver may add, sorted by name.

    These are packages that pip has replaced, packages that pip provides because the conda package was
    removed (``conda remove --force``), and packages that the user ignores.
    """
    found = {
        record.name: ExternalPackage(record.name, record.version, record.build) for record in plan.replaced
    }
    for left_out in plan.left_out:
        if left_out.manager == "conda" and left_out.level is Level.IGNORE:
            found[left_out.name] = ExternalPackage(left_out.name, left_out.version)
    pip = {package.name: package.version for package in plan.packages if package.name != "python"}
    conda = {package.name for package in plan.conda}
    for package in plan.conda:
        for name in _dependency_names(package.record) if package.record is not None else ():
            if name not in conda and name not in found and canonical_name(name) in pip:
                found[name] = ExternalPackage(name, pip[canonical_name(name)])
    return tuple(found[name] for name in sorted(found))


def _dependency_names(record: CondaRecord) -> Iterator[str]:
    """Yield the conda names of the dependencies of *record*, without virtual packages (``__glibc``)."""
    for spec in record.depends:
        match = _SPEC_NAME.match(spec)
        if match and not match[1].startswith("__"):
            yield match[1].lower()


def requirers_of_left_out(
    environment: Environment,
    left_out: Collection[Key],
    markers: Mapping[str, str],
    *,
    foreign: Collection[Key] = (),
) -> dict[Key, list[str]]:
    """Return the required packages among *left_out*, each with the names of the packages that require it.

    That a conda package depends on a *foreign* package, one for another platform, is ignored.
    """
    names: dict[NormalizedName, Key] = {}
    kept = []
    for package in environment.packages:
        key: Key = ("conda", package.conda) if package.conda else ("pip", package.name)
        if key in left_out:
            names[package.name] = key
        elif not package.conda:
            kept.append(package)
    found: dict[Key, list[str]] = {}
    for name, by in requirers(kept, names, markers).items():
        found.setdefault(names[name], []).extend(map(str, by))
    records = {record.name for record in environment.conda}
    for record in environment.conda:
        if ("conda", record.name) in left_out:
            continue
        for dependency in dict.fromkeys(_dependency_names(record)):
            key = _key(dependency, records)
            if key in left_out and key not in foreign:
                found.setdefault(key, []).append(record.name)
    return {key: list(dict.fromkeys(by)) for key, by in found.items()}


def closure_of(environment: Environment, roots: Iterable[Key], markers: Mapping[str, str]) -> frozenset[Key]:
    """Return *roots* and their installed dependencies, direct and indirect, of pip and of conda."""
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
                wider.update(_key(dependency, records) for dependency in _dependency_names(records[name]))
        if wider == kept:
            return kept
        kept = frozenset(wider)


def _key(dependency: str, records: Collection[str]) -> Key:
    """Return the key of a *dependency* of a conda package: pip's, if no conda record has the name."""
    return ("conda", dependency) if dependency in records else ("pip", canonical_name(dependency))
