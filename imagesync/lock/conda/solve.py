"""Solving for another platform: the local versions where they can be had together, within the levels."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from imagesync.core.names import Level
from imagesync.errors import UnsolvableError
from imagesync.lock.conda.preferences import (
    Wanted,
    builds_for,
    shown_versions,
    want,
)
from imagesync.lock.conda.records import lock_record, outside
from imagesync.lock.conda.solver import CondaRequest, CondaSolver, VirtualPackage
from imagesync.lock.conda.unsolvable import explained, refusal
from imagesync.lock.lock import Deviation, LockedConda
from imagesync.plan.match_specs import pins_for
from imagesync.plan.plan import PlannedConda

# How long to look for a better solution once there is one, in seconds.
_PATIENCE = 15.0


@dataclass(frozen=True)
class Solved:
    """Packages for the target, and how they differ from what is installed.

    Parameters
    ----------
    missing
        Installed packages for any platform that no channel and no package cache has: their installed files
        may stand in for them.
    """

    packages: tuple[LockedConda, ...]
    deviations: tuple[Deviation, ...]
    missing: tuple[PlannedConda, ...] = ()


def solve_platform(
    planned: Sequence[PlannedConda],
    *,
    local_subdir: str,
    python: str,
    solver: CondaSolver,
    virtual_packages: tuple[VirtualPackage, ...],
) -> Solved:
    """Return packages for linux-64 for what is installed elsewhere.

    Parameters
    ----------
    local_subdir
        The subdirectory of channels that this environment was installed from, such as ``osx-arm64``.
    python
        The feature version of the environment's interpreter, such as ``3.11``.

    Raises
    ------
    UnsolvableError
        What the levels allow can't be had, or not together; with the reasons and the smallest remedies.
    LockError
        A channel doesn't answer.
    """
    installed = [package for package in planned if package.record is not None]
    added = [f"{package.name} {package.specifier}".strip() for package in planned if package.record is None]
    found = solver.available(package.name for package in installed)
    lacking = [package for package in installed if package.name not in found]
    left_out, unlisted = _split_lacking(lacking, local_subdir, solver)
    held = [archive for package in unlisted if solver.has_archive(archive := lock_record(package))]
    missing = tuple(p for p in unlisted if p.name not in {archive.name for archive in held})
    wanted = [_want(package, found[package.name], solver) for package in installed if package.name in found]
    _refuse_unavailable(wanted)
    # What needs them gets them from wheels of their installed files.
    repacked = tuple(outside(package.name, package.version, package.build) for package in missing)
    request = CondaRequest((), virtual_packages, held=tuple(held), outside=repacked)
    added += [f"{package.name} =={package.version}" for package in held]
    attempt = _Attempt(tuple(wanted), tuple(added), request, solver, python)
    packages, moved = attempt.run()
    here = {package.name: package for package in planned}
    return Solved(
        packages=tuple(with_plan(package, here.get(package.name)) for package in packages),
        deviations=(
            *(_left_out(package, solver.channels, local_subdir) for package in left_out),
            *_deviations(packages, wanted, moved),
            *_came_in(packages, planned),
        ),
        missing=missing,
    )


def _want(planned: PlannedConda, found: Sequence[LockedConda], solver: CondaSolver) -> Wanted:
    pins = pins_for(planned.name, solver.pins)
    return want(planned, found, solver.channels, priority=solver.priority, pins=pins)


def _split_lacking(
    lacking: Sequence[PlannedConda], local_subdir: str, solver: CondaSolver
) -> tuple[list[PlannedConda], tuple[PlannedConda, ...]]:
    """Return what no channel has for Linux: because it is for another platform alone, or not at all.

    Raises
    ------
    UnsolvableError
        A critical package is among them, or one that no channel has for any platform.
    """
    if not lacking:
        return [], ()
    elsewhere = solver.available((package.name for package in lacking), subdirs=(local_subdir,))
    left_out, missing, refused = [], [], []
    for package in lacking:
        if package.level is Level.CRITICAL:
            refused.append((package, "no channel has it for linux-64 or noarch"))
        elif package.name in elsewhere:
            left_out.append(package)
        elif package.record is not None and package.record.subdir == "noarch":
            missing.append(package)
        else:
            refused.append((package, "no channel has it, for any platform"))
    if refused:
        raise refusal(refused, solver.channels)
    return left_out, tuple(missing)


def _refuse_unavailable(wanted: Sequence[Wanted]) -> None:
    """Raise if the channels have no version that a package's level allows; each is named."""
    unavailable = [entry for entry in wanted if not entry.version]
    if unavailable:
        raise refusal(
            [(entry.planned, f"the channel has {_choice(entry)} for linux-64") for entry in unavailable],
            sorted({entry.candidates[0].channel for entry in unavailable if entry.candidates}),
        )


@dataclass(frozen=True)
class _Attempt:
    wanted: tuple[Wanted, ...]
    added: tuple[str, ...]
    request: CondaRequest
    solver: CondaSolver
    python: str

    def run(self) -> tuple[tuple[LockedConda, ...], dict[str, str]]:
        """Return a solution, and for each package that can't have the wanted version the solver's reason."""
        names = {entry.name for entry in self.wanted}
        try:
            return self._solve(names), {}
        except UnsolvableError as error:
            first = error
        preferred = tuple(builds[-1] for entry in self.wanted if (builds := builds_for(entry, self.python)))
        try:
            solution = self._solve(set(), preferred)
        except UnsolvableError as error:
            reasons = explained(error, self.wanted, self.added, self.request, self.solver)
            raise _with_base(reasons) from first
        return self._improve(solution, preferred)

    def _improve(
        self, solution: tuple[LockedConda, ...], preferred: tuple[LockedConda, ...]
    ) -> tuple[tuple[LockedConda, ...], dict[str, str]]:
        """Return the best solution: what still has another version can't have the wanted one as well."""
        until = time.monotonic() + _PATIENCE
        kept = {entry.name for entry in self.wanted if not _moved(entry, solution)}
        reasons: dict[str, str] = {}
        for entry in sorted(self.wanted, key=_weight):
            if entry.name in kept:
                continue
            if not _moved(entry, solution):
                kept.add(entry.name)
                continue
            if time.monotonic() > until:
                reasons[entry.name] = "the solver chose it together with the other packages"
                continue
            try:
                solution = self._solve(kept | {entry.name}, preferred)
            except UnsolvableError as error:
                reasons[entry.name] = " ".join(error.message.split())
            else:
                kept.add(entry.name)
        return solution, reasons

    def _solve(self, pinned: set[str], preferred: tuple[LockedConda, ...] = ()) -> tuple[LockedConda, ...]:
        specs = (entry.pinned if entry.name in pinned else entry.limited for entry in self.wanted)
        return self.solver.solve(replace(self.request, specs=(*specs, *self.added), preferred=preferred))


def _with_base(error: UnsolvableError) -> UnsolvableError:
    """Return *error* with a newer base image as the first remedy, where the C library is too old."""
    needed = [tuple(map(int, pair)) for pair in re.findall(r"__glibc >=(\d+)\.(\d+)", error.message)]
    if not needed:
        return error
    newer = "Choose a base image with glibc {}.{} or newer (--base).".format(*max(needed))
    return UnsolvableError(error.message, hint="\n".join(filter(None, (newer, error.hint))))


def _moved(entry: Wanted, solution: Iterable[LockedConda]) -> bool:
    return not any(p.name == entry.name and p.version == entry.version for p in solution)


def _weight(entry: Wanted) -> tuple[bool, bool, str]:
    return entry.planned.level is not Level.EXACT, not entry.planned.requested, entry.name


def with_plan(package: LockedConda, planned: PlannedConda | None) -> LockedConda:
    """Return *package* with what is known of it because it is installed here."""
    if planned is None or planned.record is None:
        return replace(package, planned=planned)
    return replace(package, planned=planned, distributions=planned.record.distributions)


def _deviations(
    packages: Sequence[LockedConda], wanted: Sequence[Wanted], moved: dict[str, str]
) -> Iterable[Deviation]:
    versions = {package.name: package.version for package in packages}
    for entry in wanted:
        planned, locked = entry.planned, versions[entry.name]
        if locked == planned.version:
            continue
        where = " and ".join(_channels(entry))
        if entry.version == planned.version:
            reason = moved.get(entry.name, "the solver chose it together with the other packages")
            reason = f"{reason.removesuffix('.')}; {where} has {_choice(entry)}"
        else:
            reason = f"{where} has no {planned.version} for linux-64; it has {_choice(entry)}"
            reason += f"; {moved[entry.name]}" if entry.name in moved else ""
        yield Deviation(
            planned.name, planned.version, locked, planned.level, reason, "conda", planned.requested
        )


def _channels(entry: Wanted) -> Iterable[str]:
    return dict.fromkeys(package.channel.rpartition("/")[2] for package in entry.candidates)


def _choice(entry: Wanted) -> str:
    """Return in words what there is of a package."""
    pinned = f" (pinned: {', '.join(entry.pins)})" if entry.pins else ""
    return f"{shown_versions(entry.candidates)}{pinned}"


def _left_out(planned: PlannedConda, channels: Sequence[str], local_subdir: str) -> Deviation:
    reason = f"the channels have it for {local_subdir} and not for linux-64 or noarch"
    level = Level.PLATFORM_ONLY
    return Deviation(planned.name, planned.version, "", level, reason, "conda", planned.requested)


def _came_in(packages: Sequence[LockedConda], planned: Sequence[PlannedConda]) -> Iterable[Deviation]:
    """Yield the Python packages that nobody has here; libraries of a platform are no difference."""
    known = {package.name for package in planned}
    required_by: dict[str, list[str]] = {}
    for package in packages:
        for name in {line.partition(" ")[0] for line in package.depends}:
            required_by.setdefault(name, []).append(package.name)
    for package in packages:
        if package.name in known or not package.distributions:
            continue
        by = ", ".join(required_by.get(package.name, ()))
        reason = f"required by {by or 'a package that comes in'} on linux-64"
        yield Deviation(package.name, "", package.version, Level.COMPATIBLE, reason, "conda")
