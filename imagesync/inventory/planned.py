"""Inventories of a planned environment and of the image made for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import Level
from imagesync.core.platforms import sysconfig_platform
from imagesync.inventory.inventory import LOOSE_CODE, Entry, Inventory, Kind, specifier_for

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.lock import Lock, LockedConda
    from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
    from imagesync.scan.environment import Package


def local_inventory(plan: Plan, contents: Mapping[NormalizedName, str]) -> Inventory:
    """Return the inventory of the environment of *plan*, including packages left out of the image.

    Parameters
    ----------
    plan
        Plan of the environment.
    contents
        Digest of the sources of each vendored package.
    """
    return Inventory(plan.python.platform, (*_local(plan, contents),))


def image_inventory(plan: Plan, lock: Lock, *, environment_hash: str) -> Inventory:
    """Return the inventory of the image of *lock*.

    Parameters
    ----------
    plan
        Plan of the lock, with levels and loose code.
    lock
        Lock with the versions in the image.
    environment_hash
        ``sha256:<hex>`` of the image.
    """
    reasons: dict[str, str] = {deviation.name: deviation.reason for deviation in lock.deviations}
    entries = tuple(
        replace(entry, reason=reasons.get(entry.conda or entry.name, "")) for entry in _locked(plan, lock)
    )
    return Inventory(sysconfig_platform(lock.target.platform), entries, environment_hash)


def _local(plan: Plan, contents: Mapping[NormalizedName, str]) -> Iterator[Entry]:
    for package in plan.packages:
        yield _planned(plan, package, version=package.version, content=contents.get(package.name, ""))
    for conda in plan.conda:
        distributions = () if conda.record is None else conda.record.distributions
        yield from _conda(plan, conda, conda.level, distributions)
    for left in plan.left_out:
        kind: Kind = "conda" if left.manager == "conda" else "distribution"
        yield Entry(left.name, left.version, kind, left.manager, level=left.level, left_out=True)
    yield from _loose_code(plan)


def _locked(plan: Plan, lock: Lock) -> Iterator[Entry]:
    planned: dict[str, PlannedPackage] = {package.name: package for package in plan.packages}
    versions: dict[str, str] = {"python": lock.target.python_version}
    versions |= {package.name: package.version for package in lock.packages}
    versions |= {package.name: package.version for package in lock.vendored}
    # A repacked package counts as an index package: equal versions are equal packages.
    contents: dict[str, str] = {
        package.name: package.content for package in lock.vendored if not package.repacked
    }
    for name, version in versions.items():
        if name in planned:
            yield _planned(plan, planned[name], version=version, content=contents.get(name, ""))
        else:
            yield Entry(name, version, level=Level.COMPATIBLE)
    levels = {package.name: package.level for package in plan.conda}
    for conda in lock.conda:
        level = levels.get(conda.name, Level.COMPATIBLE)
        yield from _conda(plan, conda, level, conda.distributions)
    yield from _loose_code(plan)


def _planned(plan: Plan, package: PlannedPackage, *, version: str, content: str) -> Entry:
    is_python = package.name == "python" and package.installed is None
    build = next((conda.build for conda in plan.conda if conda.name == "python"), "") if is_python else ""
    return Entry(
        package.name,
        version,
        kind="python" if is_python else "distribution",
        manager="conda" if build else "" if is_python else "pip",
        level=package.level,
        specifier=package.specifier,
        content=content,
        local=package.vendored,
        conda="python" if build else "",
        build=build,
    )


def _conda(
    plan: Plan, package: PlannedConda | LockedConda, level: Level, distributions: Iterable[str]
) -> Iterator[Entry]:
    """Yield the distributions of a conda package, or the package itself if it has none."""
    name, version, build = package.name, package.version, package.build
    if name == "python":
        return  # Python has its own entry
    provided: dict[str, Package] = {package.name: package for package in plan.provided}
    local = next((conda.version for conda in plan.conda if conda.name == name), "")
    entries = [Entry(name, version, "conda", "conda", conda=name, build=build, level=level)]
    if distributions:
        # A distribution's version may differ from its conda package's.
        entries = [
            Entry(
                distribution,
                provided[distribution].version if distribution in provided and version == local else version,
                manager="conda",
                conda=name,
                build=build,
                level=level,
            )
            for distribution in distributions
        ]
    for entry in entries:
        yield replace(entry, specifier=specifier_for(entry, level))


def _loose_code(plan: Plan) -> Iterator[Entry]:
    if plan.code:
        yield Entry(LOOSE_CODE, "", kind="code", content=plan.code.digest, local=True)
