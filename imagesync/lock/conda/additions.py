"""Solving for the conda packages of the setting ``add.conda``, with the installed packages frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imagesync.core.names import Level
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.solver import CondaRequest, CondaSolver, VirtualPackage
from imagesync.lock.explain.conflicts import Unanswered, contradiction, explain, way_out
from imagesync.lock.lock import Deviation, LockedConda
from imagesync.plan.plan import PlannedConda

_SECONDS = 10.0
_REASON = "what 'add.conda' adds needs this build"


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
        raise _with_explanation(error, specs, installed, request, solver) from first
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


def _with_explanation(
    error: UnsolvableError,
    additions: Sequence[str],
    installed: Sequence[LockedConda],
    request: CondaRequest,
    solver: CondaSolver,
) -> UnsolvableError:
    constraints = [*additions, *_pins(installed)]

    def solvable(kept: Sequence[str]) -> bool:
        held = set(kept)
        specs = tuple(spec if spec in held else _name(spec) for spec in constraints)
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
        + contradiction([_described(spec, additions) for spec in found.conflict], "linux-64"),
        hint=(
            f"{way_out([[_name(spec) for spec in remedy] for remedy in found.remedies])}\n"
            if found.remedies
            else ""
        )
        + "Change the versions in [tool.imagesync.add], or install the package locally first: "
        "`conda install NAME` shows what has to move for it.",
    )


def _name(spec: str) -> str:
    return spec.partition(" ")[0]


def _described(spec: str, additions: Sequence[str]) -> str:
    return f"{spec} (add.conda)" if spec in additions else f"{spec.replace('==', '')} (installed here)"
