"""The conda part of a lock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imagesync.lock.conda.records import lock_records
from imagesync.lock.conda.solver import CondaSolver
from imagesync.lock.lock import Deviation, LockedConda, Target
from imagesync.plan.plan import Plan


@dataclass(frozen=True)
class CondaPart:
    """What a lock has from channels.

    Parameters
    ----------
    packages
        Sorted by conda name.
    deviations
        What differs from the local environment.
    """

    packages: tuple[LockedConda, ...] = ()
    deviations: tuple[Deviation, ...] = ()

    def target(self, target: Target) -> Target:
        """Return *target* with the interpreter that is among the packages, if one is."""
        python = next((package for package in self.packages if package.name == "python"), None)
        return target if python is None else replace(target, python_version=python.version)


def lock_conda(plan: Plan, *, target: Target, solver: CondaSolver) -> CondaPart:
    """Return the archives of the conda packages of *plan*.

    Raises
    ------
    UnsolvableError
        No set of packages satisfies the plan.
    LockError
        A channel doesn't answer, or the base image is too old.
    """
    if not plan.conda:
        return CondaPart()
    packages = lock_records(plan.conda, target=target)
    return CondaPart(tuple(_with_digest(package, solver) for package in packages))


def _with_digest(package: LockedConda, solver: CondaSolver) -> LockedConda:
    record = package.planned.record if package.planned is not None else None
    if package.artifact.digest or record is None:
        return package
    return replace(package, artifact=replace(package.artifact, digest=solver.digest(record)))
