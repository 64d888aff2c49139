"""Python distributions that conda packages provide: pip's part lives with them, and doesn't repeat them."""

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
    """Return the canonical names that *packages* provide, each with the conda name of its package."""
    return {name: package.name for package in packages for name in package.distributions}


def stand_ins(packages: Sequence[LockedConda], installed: Iterable[Package]) -> tuple[PlannedPackage, ...]:
    """Return what *packages* provide, for a resolver of Python packages: it is there, no index is asked.

    Parameters
    ----------
    installed
        The distributions that conda's packages provide here: their metadata say what they require.
    """
    here = {package.name: package for package in installed}
    return tuple(
        stand_in
        for package in packages
        for name in package.distributions
        if (stand_in := _stand_in(name, package, here)) is not None
    )


def planned_distribution(package: Package, *, version: str = "") -> PlannedPackage:
    """Return a distribution that conda provides as one that stays at its version, or at *version*.

    What it needs is conda's affair, and satisfied; only what its extras need isn't.
    """
    version = version or package.version
    extras = tuple(line for line in package.requires if _EXTRA.search(line))
    installed = replace(package, version=version, requires=extras)
    return PlannedPackage(package.name, version, Level.CRITICAL, f"=={version}", _REASON, installed=installed)


def _stand_in(
    name: NormalizedName, package: LockedConda, here: Mapping[NormalizedName, Package]
) -> PlannedPackage | None:
    if name == "python":
        return None
    local = here.get(name)
    if local is None:
        return PlannedPackage(name, package.version, Level.CRITICAL, f"=={package.version}", _REASON)
    same = package.planned is not None and package.planned.version == package.version
    # Of another version conda's number is the best guess: the metadata are in the archive.
    return planned_distribution(local, version=local.version if same else package.version)


def refuse_shared(packages: Iterable[LockedConda], others: Iterable[NormalizedName]) -> None:
    """Raise if a distribution is both in a conda package and among *others*, which pip installs.

    Raises
    ------
    LockError
        Some are; each is named with the conda package that has it.
    """
    provided = provided_names(packages)
    shared = sorted(set(map(canonical_name, others)) & set(provided))
    if not shared:
        return
    lines = [f"- {name}: the conda package {provided[name]} has it, and pip installs it" for name in shared]
    subject = "1 package is" if len(shared) == 1 else f"{len(shared)} packages are"
    raise LockError(
        f"{subject} in the conda part and in pip's part of the lock:\n" + "\n".join(lines),
        hint='Take each from one of the two: set levels = { NAME = "ignore" } for one of its names, '
        "or remove it in your environment (pip uninstall, conda remove).",
    )
