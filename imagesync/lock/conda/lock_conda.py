"""Locking the conda packages of a plan, with those that the setting ``add.conda`` adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from imagesync.core.names import Level
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.locked_records import lock_records
from imagesync.lock.conda.solver import (
    CondaRequest,
    CondaResult,
    CondaSolver,
    VirtualPackage,
    virtual_packages,
)
from imagesync.lock.explain.conflicts import Unanswered, contradiction, explain, way_out
from imagesync.lock.lock import Deviation, Target
from imagesync.lock.locked_packages import LockedConda
from imagesync.plan.plan import Plan, PlannedConda

_SECONDS = 10.0
_REASON = "what 'add.conda' adds needs this build"


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


def solve_additions(
    additions: Sequence[PlannedConda],
    installed: tuple[LockedConda, ...],
    *,
    solver: CondaSolver,
    virtual_packages: tuple[VirtualPackage, ...],
) -> tuple[tuple[LockedConda, ...], tuple[Deviation, ...]]:
    """Return *installed* with *additions* and their dependencies, sorted by name, and the changed builds.

    Installed packages stay as they are. If that has no solution, their versions stay and builds may change:
    a build for CUDA needs others that are made for it.

    Raises
    ------
    UnsolvableError
        The additions conflict with the installed versions; the hint has the smallest remedies.
    LockError
        A channel doesn't answer.
    """
    specs = tuple(f"{package.name} {package.specifier}".strip() for package in additions)
    request = CondaRequest(specs, virtual_packages)
    names = tuple(package.name for package in installed)
    try:
        return solver.solve(replace(request, specs=(*specs, *names), frozen=installed)), ()
    except UnsolvableError as error:
        first = error
    try:
        solution = solver.solve(replace(request, specs=(*specs, *_pins(installed)), preferred=installed))
    except UnsolvableError as error:
        raise _explained(error, specs, installed, request, solver) from first
    before = {package.name: package for package in installed}
    changed = [p for p in solution if p.name in before and p.build != before[p.name].build]
    return (
        tuple(replace(p, planned=before[p.name].planned) if p in changed else p for p in solution),
        tuple(_deviation(package, before[package.name]) for package in changed),
    )


def _pins(packages: Sequence[LockedConda]) -> tuple[str, ...]:
    return tuple(f"{package.name} =={package.version}" for package in packages)


def _deviation(package: LockedConda, installed: LockedConda) -> Deviation:
    level = installed.planned.level if installed.planned is not None else Level.COMPATIBLE
    requested = installed.planned.requested if installed.planned is not None else None
    local, locked = (f"{build.version} {build.build}" for build in (installed, package))
    return Deviation(package.name, local, locked, level, _REASON, "conda", requested)


def _explained(
    error: UnsolvableError,
    additions: Sequence[str],
    installed: Sequence[LockedConda],
    request: CondaRequest,
    solver: CondaSolver,
) -> UnsolvableError:
    constraints = [*additions, *_pins(installed)]

    def solvable(kept: Sequence[str]) -> bool:
        kept_specs = set(kept)
        specs = tuple(spec if spec in kept_specs else _spec_name(spec) for spec in constraints)
        try:
            solver.solve(replace(request, specs=specs, preferred=tuple(installed), timeout=5.0))
        except UnsolvableError:
            return False
        except LockError as failure:
            raise Unanswered from failure
        return True

    found = explain(constraints, solvable, seconds=_SECONDS)
    return UnsolvableError(
        f"The packages in 'add.conda' can't be added to what is installed: {error.message}"
        + contradiction([_described(spec, additions) for spec in found.conflict], solver.platform.subdir),
        hint=(
            f"{way_out([[_spec_name(spec) for spec in remedy] for remedy in found.remedies])}\n"
            if found.remedies
            else ""
        )
        + "Change the versions in [tool.imagesync.add], or install the package locally first: "
        "`conda install NAME` shows what has to move for it.",
    )


def _spec_name(spec: str) -> str:
    return spec.partition(" ")[0]


def _described(spec: str, additions: Sequence[str]) -> str:
    return f"{spec} (add.conda)" if spec in additions else f"{spec.replace('==', '')} (installed here)"
