"""Locking the conda packages of a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from imagesync.lock.conda.records import lock_records
from imagesync.lock.conda.solver import CondaResult, CondaSolver, VirtualPackage, virtual_packages
from imagesync.lock.lock import LockedConda, Target
from imagesync.plan.plan import Plan, PlannedConda


def lock_conda(plan: Plan, *, target: Target, same_platform: bool, solver: CondaSolver) -> CondaResult:
    """Return the locked conda packages of *plan*.

    On the target's own platform the installed records are the lock, and additions are solved with all
    installed packages frozen. On another platform everything is solved.

    Raises
    ------
    UnsolvableError
        No set of packages satisfies the plan.
    LockError
        A channel doesn't answer, or the base image has too old a glibc.
    """
    if not plan.conda:
        return CondaResult()
    of_image = virtual_packages(target, cuda=solver.cuda)
    if same_platform:
        return _same_platform(plan, target, solver, of_image)
    from imagesync.lock.conda.solve import solve_platform

    return solve_platform(
        plan.conda,
        local_subdir=_local_subdir(plan.conda),
        python=plan.python.minor,
        solver=solver,
        virtual_packages=of_image,
    )


def _same_platform(
    plan: Plan, target: Target, solver: CondaSolver, of_image: tuple[VirtualPackage, ...]
) -> CondaResult:
    packages = tuple(_with_digest(package, solver) for package in lock_records(plan.conda, target=target))
    additions = [package for package in plan.conda if package.record is None]
    if not additions:
        return CondaResult(packages, channels=solver.channels)
    from imagesync.lock.conda.additions import solve_additions

    packages, deviations = solve_additions(additions, packages, solver=solver, virtual_packages=of_image)
    return CondaResult(packages, deviations, channels=solver.channels)


def _with_digest(package: LockedConda, solver: CondaSolver) -> LockedConda:
    record = package.planned.record if package.planned is not None else None
    if package.artifact.digest or record is None:
        return package
    return replace(package, artifact=replace(package.artifact, digest=solver.digest(record)))


def _local_subdir(packages: Iterable[PlannedConda]) -> str:
    """Return the subdirectory of channels that most *packages* come from, such as ``osx-arm64``."""
    records = (package.record for package in packages if package.record is not None)
    counted = Counter(record.subdir for record in records if record.subdir != "noarch")
    return counted.most_common(1)[0][0] if counted else "noarch"
