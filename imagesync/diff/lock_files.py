"""Lock files as sides of a comparison: each is read for the environment or image on the other side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.names import canonical_name
from imagesync.inventory.inventory import Entry, Inventory, with_levels
from imagesync.lock.lock import Lock
from imagesync.pipeline.lock_drift import read_to_compare, same_wheels, with_sources
from imagesync.pipeline.lock_file_sources import with_digests
from imagesync.pipeline.target_environment import target_interpreter
from imagesync.plan.plan import Plan
from imagesync.wheels.wheel_contents import first_sources

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.locked_packages import LockedConda, VendoredPackage
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_inputs import EnvironmentInputs


@dataclass(frozen=True)
class OtherSide:
    """What lock files are read for, since many are made for several Pythons.

    Parameters
    ----------
    python
        Version of Python.
    entries
        The packages of the other side; none if that is a lock file, too.
    inputs
        The environment, if the other side is one.
    """

    python: str
    entries: tuple[Entry, ...] = ()
    inputs: EnvironmentInputs | None = None


def lock_inventories(paths: Sequence[Path], context: Context, *, other: OtherSide) -> tuple[Inventory, ...]:
    """Return the inventory of each of the lock files at *paths*, read for *other*.

    Raises
    ------
    ImagesyncError
        A file can't be read, or isn't a lock file.
    """
    locks = [_read(path, context, other) for path in paths]
    # A lock file of another tool doesn't say which distributions a conda package provides.
    entries = (*other.entries, *(entry for lock in locks for entry in _entries(lock)))
    known: dict[str, dict[NormalizedName, None]] = {}
    for entry in entries:
        if entry.kind == "distribution" and entry.conda:
            known.setdefault(entry.conda, {})[canonical_name(entry.name)] = None
    return tuple(_inventory(_with_distributions(lock, known), other) for lock in locks)


def _read(path: Path, context: Context, other: OtherSide) -> Lock:
    lock_file = read_to_compare(path, context, python=lambda: other.python)
    lock = lock_file.lock
    if not all(package.content for package in lock.vendored):
        lock = replace(lock, vendored=_with_sources(lock.vendored, context, other))
    if other.inputs is not None:
        # Files beside the sources, such as this lock file, are no difference.
        digests = other.inputs.source_digests
        same = {name: digests[name] for name in same_wheels(lock_file, other.inputs)}
        vendored = tuple(replace(each, content=same.get(each.name, each.content)) for each in lock.vendored)
        lock = replace(lock, vendored=vendored)
    if lock.target.python_version:
        return lock
    return replace(lock, target=replace(lock.target, python_version=other.python))


def _with_sources(
    vendored: tuple[VendoredPackage, ...], context: Context, other: OtherSide
) -> tuple[VendoredPackage, ...]:
    """Return local packages with the digests of their sources, as a build takes them for an image."""
    if other.inputs is not None:
        return with_sources(vendored, other.inputs)
    cache = context.cache_folder
    plan = Plan(target_interpreter(other.python), tuple(package.planned for package in vendored))
    found = with_digests(vendored, cache=cache)
    digests = {package.name: package.content for package in found}
    first = first_sources(plan, digests, no_isolation=context.settings.no_isolation, cache=cache)
    return tuple(replace(package, content=first[package.name]) for package in found)


def _with_distributions(lock: Lock, known: Mapping[str, Iterable[NormalizedName]]) -> Lock:
    conda = (
        replace(package, distributions=package.distributions or tuple(known.get(package.name, ())))
        for package in lock.conda
    )
    return replace(lock, conda=tuple(conda))


def _inventory(lock: Lock, other: OtherSide) -> Inventory:
    found = inventory_of(lock)
    if other.inputs is None:
        return found
    return replace(found, entries=tuple(_with_local_versions(found.entries, other.inputs)))


def _with_local_versions(entries: Iterable[Entry], inputs: EnvironmentInputs) -> Iterator[Entry]:
    """Yield *entries* with the versions of distributions, which may not be their conda packages'."""
    records = {record.name: record.version for record in inputs.environment.conda}
    versions: dict[str, str] = {package.name: package.version for package in inputs.environment.packages}
    for entry in entries:
        is_same = entry.kind == "distribution" and records.get(entry.conda) == entry.version
        yield replace(entry, version=versions.get(entry.name, entry.version)) if is_same else entry


def inventory_of(lock: Lock) -> Inventory:
    """Return the inventory of what *lock* names."""
    return Inventory(lock.target.platform.sysconfig_name, with_levels(_entries(lock)))


def _entries(lock: Lock) -> Iterator[Entry]:
    reasons: dict[str, str] = {deviation.name: deviation.reason for deviation in lock.deviations}
    python = lock.target.python_version
    build = next((conda.build for conda in lock.conda if conda.name == "python"), "")
    of_python = Entry("python", python, kind="python", reason=reasons.get("python", ""))
    yield replace(of_python, manager="conda", conda="python", build=build) if build else of_python
    for conda in lock.conda:
        yield from _conda_entries(conda, reasons.get(conda.name, ""))
    for package in lock.packages:
        yield Entry(package.name, package.version, reason=reasons.get(package.name, ""))
    for vendored in lock.vendored:
        # Compare sources, not the wheels built from them.
        is_local = not vendored.repacked
        content = vendored.content if is_local else ""
        reason = reasons.get(vendored.name, "")
        yield Entry(vendored.name, vendored.version, content=content, local=is_local, reason=reason)


def _conda_entries(package: LockedConda, reason: str) -> Iterator[Entry]:
    name, version, build = package.name, package.version, package.build
    if name == "python":
        return
    for distribution in package.distributions:
        yield Entry(distribution, version, manager="conda", conda=name, build=build, reason=reason)
    if not package.distributions:
        yield Entry(name, version, "conda", "conda", conda=name, build=build, reason=reason)
