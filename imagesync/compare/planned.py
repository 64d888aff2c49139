"""The inventory of an environment that was planned, and of the image that was made for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.compare.inventory import LOOSE_CODE, Entry, Inventory
from imagesync.plan.plan import Level

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.lock import Lock
    from imagesync.plan.plan import Plan, PlannedPackage

_SYSCONFIG = {"linux/amd64": "linux-x86_64", "linux/arm64": "linux-aarch64"}


def local_inventory(plan: Plan, contents: Mapping[NormalizedName, str]) -> Inventory:
    """Return what the environment holds that *plan* was made for, what stays out of the image included.

    Parameters
    ----------
    contents
        For each vendored package the digest of what its wheel is made from.
    """
    return Inventory(plan.python.platform, (*_local(plan, contents),))


def image_inventory(plan: Plan, lock: Lock, *, environment_hash: str) -> Inventory:
    """Return what the image of *lock* holds.

    Parameters
    ----------
    plan
        What the lock was made for: levels and loose code are the plan's.
    """
    return Inventory(
        sysconfig_platform(lock.target.platform), (*_locked(plan, lock),), environment_hash=environment_hash
    )


def sysconfig_platform(platform: str) -> str:
    """Return what ``sysconfig.get_platform()`` says on a platform of images.

    >>> sysconfig_platform("linux/amd64")
    'linux-x86_64'
    """
    return _SYSCONFIG.get(platform, platform.replace("/", "-"))


def _local(plan: Plan, contents: Mapping[NormalizedName, str]) -> Iterator[Entry]:
    for package in plan.packages:
        yield _planned(package, version=package.version, content=contents.get(package.name, ""))
    for left in plan.left_out:
        yield Entry(left.name, left.version, level=left.level, left_out=True)
    yield from _loose_code(plan)


def _locked(plan: Plan, lock: Lock) -> Iterator[Entry]:
    planned: dict[str, PlannedPackage] = {package.name: package for package in plan.packages}
    reasons: dict[str, str] = {deviation.name: deviation.reason for deviation in lock.deviations}
    versions: dict[str, str] = {"python": lock.target.python_version}
    versions |= {package.name: package.version for package in lock.packages}
    versions |= {package.name: package.version for package in lock.vendored}
    # What stands in for an index package is no local code: the same version is the same package.
    contents: dict[str, str] = {
        package.name: package.content for package in lock.vendored if not package.repacked
    }
    for name, version in versions.items():
        reason = reasons.get(name, "")
        if name in planned:
            entry = _planned(planned[name], version=version, content=contents.get(name, ""))
            yield replace(entry, reason=reason)
        else:
            yield Entry(name, version, level=Level.COMPATIBLE, reason=reason)
    yield from _loose_code(plan)


def _planned(package: PlannedPackage, *, version: str, content: str) -> Entry:
    is_python = package.name == "python" and package.installed is None
    return Entry(
        package.name,
        version,
        kind="python" if is_python else "distribution",
        level=package.level,
        specifier=package.specifier,
        content=content,
        local=package.vendored,
    )


def _loose_code(plan: Plan) -> Iterator[Entry]:
    if plan.code:
        yield Entry(LOOSE_CODE, "", kind="code", content=plan.code.digest, local=True)
