"""Python distributions that conda packages provide, which pip's packages depend on and must not repeat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import Level, canonical_name
from imagesync.errors import LockError
from imagesync.lock.lock import LockedConda
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.environment import Package

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_REASON = "A conda package provides it."
_EXTRA = re.compile(r";.*\bextra\b")


def provided_names(packages: Iterable[LockedConda]) -> dict[NormalizedName, str]:
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


def planned_distribution(package: Package, *, version: str = "") -> PlannedPackage:
    """Return a distribution of conda as a planned package that stays at its version, or at *version*.

    Its requirements are omitted, because conda has satisfied them; those of its extras aren't.
    """
    version = version or package.version
    extras = tuple(line for line in package.requires if _EXTRA.search(line))
    installed = replace(package, version=version, requires=extras)
    return PlannedPackage(package.name, version, Level.CRITICAL, f"=={version}", _REASON, installed=installed)


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


def refuse_duplicates(packages: Iterable[LockedConda], others: Iterable[NormalizedName]) -> None:
    """Raise an error if a distribution is both in a conda package and among *others*, which pip installs.

    Raises
    ------
    LockError
        There are such distributions; the message names each with its conda package.
    """
    provided = provided_names(packages)
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
