"""Solving for another platform: as many local versions as possible, within the levels."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from imagesync.core.names import Level
from imagesync.core.platforms import Platform
from imagesync.errors import UnsolvableError
from imagesync.lock.conda.locked_records import external_record, lock_record
from imagesync.lock.conda.preferences import (
    Preference,
    builds_for,
    preference_for,
    shown_versions,
    variant_of,
)
from imagesync.lock.conda.solve_errors import refusal, with_explanation
from imagesync.lock.conda.solver import CondaRequest, CondaResult, CondaSolver, VirtualPackage
from imagesync.lock.lock import Deviation
from imagesync.lock.locked_packages import LockedConda
from imagesync.plan.match_specs import pins_for
from imagesync.plan.plan import PlannedConda

# The time limit for improving a solution, in seconds.
_PATIENCE = 15.0


def solve_platform(
    planned: Sequence[PlannedConda],
    *,
    local_subdir: str,
    python: str,
    solver: CondaSolver,
    virtual_packages: tuple[VirtualPackage, ...],
) -> CondaResult:
    """Return packages for the image's platform for an environment of another one.

    *local_subdir* is the subdirectory of channels that the environment was installed from, such as
    ``osx-arm64``, and *python* its feature version, such as ``3.11``.

    Raises
    ------
    UnsolvableError
        The levels allow no available version, or no consistent set; the hint has the smallest remedies.
    LockError
        A channel doesn't answer.
    """
    installed = [package for package in planned if package.record is not None]
    additions = [
        f"{package.name} {package.specifier}".strip() for package in planned if package.record is None
    ]
    found = solver.available(package.name for package in installed)
    lacking = [package for package in installed if package.name not in found]
    left_out, unlisted = _split_lacking(lacking, local_subdir, solver)
    frozen = [archive for package in unlisted if solver.has_archive(archive := lock_record(package))]
    missing = tuple(p for p in unlisted if p.name not in {archive.name for archive in frozen})
    preferences = [_preference(p, found[p.name], solver) for p in installed if p.name in found]
    _refuse_unavailable(preferences, solver.platform)
    # Wheels of their installed files replace them.
    repacked = tuple(external_record(package.name, package.version, package.build) for package in missing)
    request = CondaRequest((), virtual_packages, frozen=tuple(frozen), externally_provided=repacked)
    additions += [f"{package.name} =={package.version}" for package in frozen]
    attempt = _Attempt(tuple(preferences), tuple(additions), request, solver, python)
    packages, reasons = attempt.run()
    by_name = {package.name: package for package in planned}
    return CondaResult(
        packages=tuple(with_plan(package, by_name.get(package.name)) for package in packages),
        deviations=(
            *(_left_out(package, local_subdir, solver.platform) for package in left_out),
            *_deviations(packages, preferences, reasons, solver.platform),
            *_new_packages(packages, planned, solver.platform),
        ),
        missing=missing,
        channels=solver.channels,
    )


def _preference(planned: PlannedConda, found: Sequence[LockedConda], solver: CondaSolver) -> Preference:
    pins = pins_for(planned.name, solver.pins)
    return preference_for(planned, found, solver.channels, priority=solver.priority, pins=pins)


def _split_lacking(
    lacking: Sequence[PlannedConda], local_subdir: str, solver: CondaSolver
) -> tuple[list[PlannedConda], tuple[PlannedConda, ...]]:
    """Return the packages that the channels have for the local platform alone, and those that they lack.

    Raises
    ------
    UnsolvableError
        One of them is critical or exact, or of the local platform and in no channel.
    """
    if not lacking:
        return [], ()
    elsewhere = solver.available((package.name for package in lacking), subdirs=(local_subdir,))
    left_out, missing, refused = [], [], []
    for package in lacking:
        if package.level in (Level.CRITICAL, Level.EXACT) and not package.takes_nearest:
            refused.append((package, f"no channel has it for {' or '.join(solver.platform.subdirs)}"))
        elif package.name in elsewhere:
            left_out.append(package)
        elif package.record is not None and package.record.subdir == "noarch":
            missing.append(package)
        else:
            refused.append((package, "no channel has it, for any platform"))
    if refused:
        raise refusal(refused, solver.channels, solver.platform)
    return left_out, tuple(missing)


def _refuse_unavailable(preferences: Sequence[Preference], platform: Platform) -> None:
    """Raise an error that names each package without an allowed version in the channels."""
    unavailable = [entry for entry in preferences if not entry.version]
    if unavailable:
        raise refusal(
            [
                (entry.planned, f"the channel has {_choice(entry)} for {platform.subdir}")
                for entry in unavailable
            ],
            sorted({entry.candidates[0].channel for entry in unavailable if entry.candidates}),
            platform,
        )


@dataclass(frozen=True)
class _Attempt:
    preferences: tuple[Preference, ...]
    additions: tuple[str, ...]
    request: CondaRequest
    solver: CondaSolver
    python: str

    def run(self) -> tuple[tuple[LockedConda, ...], dict[str, str]]:
        """Return a solution, and the solver's reason for each package without its preferred version."""
        names = {entry.name for entry in self.preferences}
        variants = self._best_builds(e for e in self.preferences if variant_of(e.planned.build))
        try:
            return self._solve(names, variants), {}
        except UnsolvableError as error:
            first = error
        preferred = self._best_builds(self.preferences)
        try:
            solution = self._solve(set(), preferred)
        except UnsolvableError as error:
            reasons = with_explanation(error, self.preferences, self.additions, self.request, self.solver)
            raise _with_base(reasons) from first
        return self._improve(solution, preferred)

    def _best_builds(self, preferences: Iterable[Preference]) -> tuple[LockedConda, ...]:
        return tuple(builds[-1] for entry in preferences if (builds := builds_for(entry, self.python)))

    def _improve(
        self, solution: tuple[LockedConda, ...], preferred: tuple[LockedConda, ...]
    ) -> tuple[tuple[LockedConda, ...], dict[str, str]]:
        """Return a solution in which no further package can have its preferred version."""
        deadline = time.monotonic() + _PATIENCE
        kept = {entry.name for entry in self.preferences if entry.holds_in(solution)}
        reasons: dict[str, str] = {}
        for entry in sorted(self.preferences, key=_priority):
            if entry.name in kept:
                continue
            if entry.holds_in(solution):
                kept.add(entry.name)
                continue
            if time.monotonic() > deadline:
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
        specs = (entry.pinned if entry.name in pinned else entry.limited for entry in self.preferences)
        return self.solver.solve(replace(self.request, specs=(*specs, *self.additions), preferred=preferred))


def _with_base(error: UnsolvableError) -> UnsolvableError:
    """Return *error* with a newer base image as the first remedy, if the glibc is too old."""
    needed = [tuple(map(int, pair)) for pair in re.findall(r"__glibc >=(\d+)\.(\d+)", error.message)]
    if not needed:
        return error
    newer = "Choose a base image with glibc {}.{} or newer (--base).".format(*max(needed))
    return UnsolvableError(error.message, hint="\n".join(filter(None, (newer, error.hint))))


def _priority(entry: Preference) -> tuple[bool, bool, str]:
    return entry.planned.level not in (Level.EXACT, Level.NEAREST), not entry.planned.requested, entry.name


def with_plan(package: LockedConda, planned: PlannedConda | None) -> LockedConda:
    """Return *package* with its planned package, and with the distributions of the installed record."""
    if planned is None or planned.record is None:
        return replace(package, planned=planned)
    return replace(package, planned=planned, distributions=planned.record.distributions)


def _deviations(
    packages: Sequence[LockedConda],
    preferences: Sequence[Preference],
    reasons: dict[str, str],
    platform: Platform,
) -> Iterable[Deviation]:
    by_name = {package.name: package for package in packages}
    for entry in preferences:
        planned, locked = entry.planned, by_name[entry.name].version
        if locked == planned.version:
            if deviation := _variant_deviation(
                entry, by_name[entry.name], reasons.get(entry.name, ""), platform
            ):
                yield deviation
            continue
        channels = " and ".join(_channels(entry))
        if entry.version == planned.version:
            reason = reasons.get(entry.name, "the solver chose it together with the other packages")
            reason = f"{reason.removesuffix('.')}; {channels} has {_choice(entry)}"
        else:
            reason = f"{channels} has no {planned.version} for {platform.subdir}; it has {_choice(entry)}"
            reason += f"; {reasons[entry.name]}" if entry.name in reasons else ""
        yield Deviation(
            planned.name, planned.version, locked, planned.level, reason, "conda", planned.requested
        )


def _variant_deviation(
    entry: Preference, locked: LockedConda, reason: str, platform: Platform
) -> Deviation | None:
    """Return the deviation of a package of the local version and another variant."""
    planned, local, found = entry.planned, variant_of(entry.planned.build), variant_of(locked.build)
    # Where a channel has no usual build for Linux, as of tk, its variant is the usual one.
    if local == found or (not local and "" not in entry.variants):
        return None
    variants = ", ".join(variant or "the usual build" for variant in sorted(entry.variants))
    channels = " and ".join(_channels(entry))
    words = f"another variant of the same version; {channels} has {variants} for {platform.subdir}"
    return Deviation(
        planned.name,
        f"{planned.version} {planned.build}",
        f"{locked.version} {locked.build}",
        planned.level,
        "; ".join(filter(None, (words, reason))),
        "conda",
        planned.requested,
    )


def _channels(entry: Preference) -> Iterable[str]:
    return dict.fromkeys(package.channel.rpartition("/")[2] for package in entry.candidates)


def _choice(entry: Preference) -> str:
    """Return the available versions of a package, and its pins, as a phrase."""
    pinned = f" (pinned: {', '.join(entry.pins)})" if entry.pins else ""
    return f"{shown_versions(entry.candidates)}{pinned}"


def _left_out(planned: PlannedConda, local_subdir: str, platform: Platform) -> Deviation:
    reason = f"the channels have it for {local_subdir} and not for {' or '.join(platform.subdirs)}"
    level = Level.PLATFORM_ONLY
    return Deviation(planned.name, planned.version, "", level, reason, "conda", planned.requested)


def _new_packages(
    packages: Sequence[LockedConda], planned: Sequence[PlannedConda], platform: Platform
) -> Iterable[Deviation]:
    """Yield a deviation for each new Python package; libraries of the platform don't count."""
    known = {package.name for package in planned}
    required_by: dict[str, list[str]] = {}
    for package in packages:
        for name in {line.partition(" ")[0] for line in package.depends}:
            required_by.setdefault(name, []).append(package.name)
    for package in packages:
        if package.name in known or not package.distributions:
            continue
        by = ", ".join(required_by.get(package.name, ()))
        reason = f"required by {by or 'a package that comes in'} on {platform.subdir}"
        yield Deviation(package.name, "", package.version, Level.COMPATIBLE, reason, "conda")
