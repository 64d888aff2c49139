"""Installed conda records as locked packages, and the Python distributions that they provide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING

from imagesync.core.names import Level, canonical_name
from imagesync.errors import LockError
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, LockedConda
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import CondaRecord, Package
from imagesync.scan.modifications.modification import Modification

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_GLIBC = re.compile(r"__glibc\s+>=(\d+)\.(\d+)")
_SPEC_NAME = re.compile(r"[\w.-]+")
_FREE_THREADED = re.compile(r"_cp[0-9]+t\Z")
_REASON = "A conda package provides it."
_EXTRA = re.compile(r";.*\bextra\b")


def lock_records(planned: Iterable[PlannedConda], *, target: Target) -> tuple[LockedConda, ...]:
    """Return the installed packages among *planned* as locked packages, sorted by conda name.

    The artifact of a record without a sha256 has no digest.

    Raises
    ------
    LockError
        A package needs a newer glibc than *target* has, or a record lacks its URL.
    """
    installed = [package for package in planned if package.record is not None]
    _refuse_older_glibc(installed, target)
    return tuple(lock_record(package) for package in sorted(installed, key=lambda package: package.name))


def lock_record(planned: PlannedConda) -> LockedConda:
    """Return an installed package as a locked one, with the archive that it was installed from.

    Raises
    ------
    LockError
        The record lacks the URL.
    """
    record = planned.record
    if record is None or not record.url:
        raise LockError(
            f"The record of {planned.name} {planned.version} doesn't say where the package came from.",
            hint=f"Install it again: conda install --force-reinstall {planned.name}",
        )
    return replace(from_record(record), planned=planned)


def from_record(record: CondaRecord) -> LockedConda:
    """Return a locked package with the archive that an installed *record* names."""
    return LockedConda(
        name=record.name,
        version=record.version,
        build=record.build,
        channel=record.channel,
        subdir=record.subdir,
        artifact=Artifact(
            filename=record.filename or record.url.rpartition("/")[2],
            url=record.url,
            digest=record.sha256,
            size=record.size,
        ),
        build_number=record.build_number,
        md5=record.md5,
        noarch=record.noarch,
        depends=record.depends,
        constrains=record.constrains,
        distributions=record.distributions,
    )


def topological_order(packages: Iterable[LockedConda]) -> list[LockedConda]:
    """Return *packages* with the dependencies of each before it, the same whatever their order.

    micromamba and conda link the packages of an explicit file line by line. A post-link script needs what its
    package depends on, and modules are compiled once Python is there.
    """
    by_name = {package.name: package for package in sorted(packages, key=lambda package: package.name)}
    graph = {
        name: {match[0] for line in package.depends if (match := _SPEC_NAME.match(line.strip()))}
        & by_name.keys()
        for name, package in by_name.items()
    }
    while True:
        sorter = TopologicalSorter({name: sorted(depends) for name, depends in graph.items()})
        try:
            return [by_name[name] for name in sorter.static_order()]
        except CycleError as error:
            # In a cycle each package depends on the one before it. Python comes before its own dependents.
            cycle: list[str] = error.args[1]
            dependency, dependent = min(pairwise(cycle), key=lambda edge: (edge[1] != "python", edge))
            graph[dependent].discard(dependency)


def external_record(name: str, version: str, build: str = "0") -> LockedConda:
    """Return a record without dependencies, for a package that something else than conda provides.

    Parameters
    ----------
    name
        The conda name.
    version, build
        Those of the conda package that it replaces, which the packages that depend on it were made for.
    """
    filename = f"{name}-{version}-{build}.conda"
    artifact = Artifact(filename, f"file:///outside/noarch/{filename}", "")
    return LockedConda(name, version, build, "file:///outside", "noarch", artifact)


def needed_glibc(depends: Iterable[str]) -> tuple[int, int] | None:
    """Return the glibc version that *depends* requires, or ``None``.

    >>> needed_glibc(["python", "__glibc >=2.17,<3.0.a0"])
    (2, 17)
    """
    found = [(int(match[1]), int(match[2])) for line in depends if (match := _GLIBC.match(line))]
    return max(found, default=None)


def _refuse_older_glibc(installed: Sequence[PlannedConda], target: Target) -> None:
    affected = [
        (needed, package)
        for package in installed
        if package.record is not None
        and (needed := needed_glibc(package.record.depends)) is not None
        and needed > target.glibc
    ]
    if not affected:
        return
    lines = [f"- {p.name} {p.version} needs glibc {needed[0]}.{needed[1]}" for needed, p in affected]
    most = max(needed for needed, _ in affected)
    raise LockError(
        f"The base image has glibc {target.glibc[0]}.{target.glibc[1]}, which is too old for:\n"
        + "\n".join(lines),
        hint=f"Choose a base image with glibc {most[0]}.{most[1]} or newer (--base).",
    )


def _provided_names(packages: Iterable[LockedConda]) -> dict[NormalizedName, str]:
    """Return the names of the distributions of *packages*, each with the conda name of its package."""
    return {name: package.name for package in packages for name in package.distributions}


def provided_distributions(
    packages: Sequence[LockedConda], installed: Iterable[Package]
) -> tuple[PlannedPackage, ...]:
    """Return the distributions of *packages* for a resolver, which takes them as present.

    Parameters
    ----------
    packages
        Locked conda packages.
    installed
        The installed distributions of conda packages, whose metadata have the requirements.
    """
    by_name = {package.name: package for package in installed}
    return tuple(
        distribution
        for package in packages
        for name in package.distributions
        if (distribution := _provided_distribution(name, package, by_name)) is not None
    )


def planned_distribution(
    package: Package, *, version: str = "", modification: Modification | None = None
) -> PlannedPackage:
    """Return a distribution of conda as a planned package that stays at its version, or at *version*.

    *modification* is the difference of its files to RECORD, if there is one. Its requirements are omitted,
    because conda has satisfied them; those of its extras aren't.
    """
    version = version or package.version
    extras = tuple(line for line in package.requires if _EXTRA.search(line))
    installed = replace(package, version=version, requires=extras)
    return PlannedPackage(
        package.name,
        version,
        Level.CRITICAL,
        f"=={version}",
        _REASON,
        installed=installed,
        modification=modification,
    )


def planned_distributions(plan: Plan) -> tuple[PlannedPackage, ...]:
    """Return the distributions that conda packages of *plan* provide as planned packages."""
    modified = plan.provided_modifications
    return tuple(planned_distribution(each, modification=modified.get(each.name)) for each in plan.provided)


def _provided_distribution(
    name: NormalizedName, package: LockedConda, installed: Mapping[NormalizedName, Package]
) -> PlannedPackage | None:
    if name == "python":
        return None
    local = installed.get(name)
    if local is None:
        return PlannedPackage(name, package.version, Level.CRITICAL, f"=={package.version}", _REASON)
    same = package.planned is not None and package.planned.version == package.version
    # For another version conda's version is the best guess: the metadata are in the archive.
    return planned_distribution(local, version=local.version if same else package.version)


def refuse_free_threaded(packages: Iterable[LockedConda]) -> None:
    """Raise an error if the Python among *packages* is a free-threaded build (PEP 703).

    Raises
    ------
    LockError
        It is: wheels, bytecode and the base image are those of the usual build.
    """
    for package in packages:
        if package.name == "python" and _FREE_THREADED.search(package.build):
            raise LockError(
                f"The lock has the free-threaded build of Python {package.version} ({package.build}), and an "
                "image has the usual one.",
                hint="Lock the usual build, without the package 'python-freethreading'.",
            )


def refuse_duplicates(packages: Iterable[LockedConda], others: Iterable[NormalizedName]) -> None:
    """Raise an error if a distribution is both in a conda package and among *others*, which pip installs.

    Raises
    ------
    LockError
        There are such distributions; the message names each with its conda package.
    """
    provided = _provided_names(packages)
    duplicates = sorted(set(map(canonical_name, others)) & set(provided))
    if not duplicates:
        return
    lines = [
        f"- {name}: the conda package {provided[name]} has it, and pip installs it" for name in duplicates
    ]
    subject = "1 package is" if len(duplicates) == 1 else f"{len(duplicates)} packages are"
    raise LockError(
        f"{subject} in the conda part and in pip's part of the lock:\n" + "\n".join(lines),
        hint='Take each from one of the two: set levels = { NAME = "ignore" } for one of its names, '
        "or remove it in your environment (pip uninstall, conda remove).",
    )
