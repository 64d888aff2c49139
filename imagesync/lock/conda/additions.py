"""Adding conda packages for the cluster: solved with everything held that is installed."""

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


def add(
    additions: Sequence[PlannedConda],
    installed: tuple[LockedConda, ...],
    *,
    solver: CondaSolver,
    virtual_packages: tuple[VirtualPackage, ...],
) -> tuple[tuple[LockedConda, ...], tuple[Deviation, ...]]:
    """Return *installed* with *additions* and what they need, sorted by name, and which builds had to change.

    Nothing installed moves. Where that can't be, versions stay and builds may change: a build for CUDA
    needs others that are made for it.

    Raises
    ------
    UnsolvableError
        The additions can't live with the installed versions; with the smallest remedies.
    LockError
        A channel doesn't answer.
    """
    asked = tuple(f"{package.name} {package.specifier}".strip() for package in additions)
    request = CondaRequest(asked, virtual_packages)
    names = tuple(package.name for package in installed)
    try:
        return solver.solve(replace(request, specs=(*asked, *names), held=installed)), ()
    except UnsolvableError as error:
        first = error
    try:
        solution = solver.solve(replace(request, specs=(*asked, *_pins(installed)), preferred=installed))
    except UnsolvableError as error:
        raise _explained(error, asked, installed, request, solver) from first
    here = {package.name: package for package in installed}
    changed = [p for p in solution if p.name in here and p.build != here[p.name].build]
    return (
        tuple(replace(p, planned=here[p.name].planned) if p in changed else p for p in solution),
        tuple(_deviation(package, here[package.name]) for package in changed),
    )


def _pins(packages: Sequence[LockedConda]) -> tuple[str, ...]:
    return tuple(f"{package.name} =={package.version}" for package in packages)


def _deviation(package: LockedConda, here: LockedConda) -> Deviation:
    level = here.planned.level if here.planned is not None else Level.COMPATIBLE
    requested = here.planned.requested if here.planned is not None else None
    local, locked = (f"{build.version} {build.build}" for build in (here, package))
    return Deviation(package.name, local, locked, level, _REASON, "conda", requested)


def _explained(
    error: UnsolvableError,
    asked: Sequence[str],
    installed: Sequence[LockedConda],
    request: CondaRequest,
    solver: CondaSolver,
) -> UnsolvableError:
    entries = [*asked, *_pins(installed)]

    def solvable(kept: Sequence[str]) -> bool:
        holding = set(kept)
        specs = tuple(entry if entry in holding else _name(entry) for entry in entries)
        try:
            solver.solve(replace(request, specs=specs, preferred=tuple(installed), timeout=5.0))
        except UnsolvableError:
            return False
        except LockError as failure:
            raise Unanswered from failure
        return True

    found = explain(entries, solvable, seconds=_SECONDS)
    return UnsolvableError(
        f"The packages in 'add.conda' can't be added to what is installed: {error.message}"
        + contradiction([_described(entry, asked) for entry in found.conflict], "linux-64"),
        hint=(
            f"{way_out([[_name(e) for e in remedy] for remedy in found.remedies])}\n"
            if found.remedies
            else ""
        )
        + "Change the versions in [tool.imagesync.add], or install the package locally first: "
        "`conda install NAME` shows what has to move for it.",
    )


def _name(entry: str) -> str:
    return entry.partition(" ")[0]


def _described(entry: str, asked: Sequence[str]) -> str:
    return f"{entry} (add.conda)" if entry in asked else f"{entry.replace('==', '')} (installed here)"
