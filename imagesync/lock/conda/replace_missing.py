"""Replacing conda packages whose archives have disappeared from their channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from imagesync.core.names import Level
from imagesync.errors import ArtifactGone, FetchError, UnsolvableError
from imagesync.lock.conda.preferences import allowed_versions, preference_for
from imagesync.lock.conda.records import external_record
from imagesync.lock.conda.solve import with_plan
from imagesync.lock.conda.solver import CondaRequest, CondaSolver, virtual_packages
from imagesync.lock.conda.unsolvable import refusal
from imagesync.lock.lock import Deviation, Lock, LockedConda, Target, VendoredPackage
from imagesync.plan.plan import PlannedConda, PlannedPackage

# The distributions of an installed conda package, each with the digest of its files. Empty if the package has
# other files, or if they don't fit the target.
RecordContent = Callable[[PlannedConda], Sequence[tuple[PlannedPackage, str]]]

_TRIES = 5


def no_record_content(package: PlannedConda) -> tuple[()]:
    """Return no distributions: never use the installed files of *package*."""
    return ()


def repack(package: PlannedConda, reason: str, content: RecordContent) -> tuple[VendoredPackage, ...]:
    """Return the distributions of *package* as wheels of its installed files; empty if they don't fit."""
    return tuple(
        VendoredPackage(planned.name, planned.version, digest, planned, reason)
        for planned, digest in content(package)
    )


def repack_missing(
    packages: Sequence[PlannedConda], channels: Sequence[str], content: RecordContent
) -> tuple[VendoredPackage, ...]:
    """Return the distributions of conda packages that no channel has, as wheels of their installed files.

    Raises
    ------
    UnsolvableError
        A package has files that don't fit the image, or other files than its distributions.
    """
    vendored: list[VendoredPackage] = []
    refused = []
    for package in packages:
        found = repack(package, "no channel has it, and no package cache", content)
        vendored += found
        if not found:
            refused.append((package, "no channel has it, and its installed files can't stand in for it"))
    if refused:
        raise refusal(refused, channels)
    return tuple(vendored)


def replace_missing_archives(
    lock: Lock, missing: Mapping[str, ArtifactGone], *, solver: CondaSolver, record_content: RecordContent
) -> Lock:
    """Return *lock* with a replacement for each conda package whose archive is missing.

    The replacement is a wheel of the installed files, if they are of that version, fit the target and are all
    Python; else another build; else the nearest version that the level allows. All other packages stay as
    they are. A replacement that differs from the installed package is a deviation. *missing* has the answers
    of the channels by conda name.

    Raises
    ------
    FetchError
        A package has no replacement.
    """
    for name, error in missing.items():
        package = next(package for package in lock.conda if package.name == name)
        reason = f"{_short(package.channel)} doesn't have {package.artifact.filename} any more"
        installed = package.planned is not None and package.planned.version == package.version
        vendored = repack(package.planned, reason, record_content) if installed and package.planned else ()
        if vendored:
            lock = _without(lock, package, vendored)
            continue
        others = tuple(other for other in lock.conda if other.name not in missing)
        solution = _with_other(package, others, _repacked(lock), lock.target, solver)
        if not solution:
            raise _no_other(package, error)
        lock = _with_solution(lock, package, reason, solution)
    return lock


def _without(lock: Lock, package: LockedConda, vendored: tuple[VendoredPackage, ...]) -> Lock:
    return replace(
        lock,
        conda=tuple(other for other in lock.conda if other is not package),
        vendored=tuple(sorted((*lock.vendored, *vendored), key=lambda package: package.name)),
    )


def _repacked(lock: Lock) -> tuple[LockedConda, ...]:
    """Return external records of the conda packages of *lock* that wheels of their files replace."""
    installed = (package.planned.installed for package in lock.vendored)
    return tuple(
        external_record(package.conda, package.version)
        for package in installed
        if package is not None and package.conda
    )


def _with_other(
    package: LockedConda,
    others: tuple[LockedConda, ...],
    repacked: tuple[LockedConda, ...],
    target: Target,
    solver: CondaSolver,
) -> tuple[LockedConda, ...]:
    """Return *others* with another archive of *package* and its dependencies; empty if there is none."""
    machine_has = virtual_packages(target, cuda=solver.cuda)
    request = CondaRequest((), machine_has, frozen=others, externally_provided=repacked)
    for candidate in _candidates(package, solver):
        spec = f"{candidate.name} =={candidate.version} {candidate.build}"
        try:
            return solver.solve(replace(request, specs=(spec, *(other.name for other in others))))
        except UnsolvableError:
            continue
    return ()


def _no_other(package: LockedConda, error: ArtifactGone) -> FetchError:
    return FetchError(
        f"{error.message}. The files that are installed here don't hold for the image, and no other build or "
        f"version will do beside the other packages ({package.name} {package.version}).",
        hint=f"Install what the channel has (`conda update {package.name}`), or put the archive into a "
        "package cache (pkgs_dirs).",
    )


def _candidates(package: LockedConda, solver: CondaSolver) -> Iterator[LockedConda]:
    """Yield the possible replacements of *package*, nearest first."""
    found = solver.available([package.name]).get(package.name, ())
    if package.planned is not None:
        found = preference_for(package.planned, found, solver.channels, priority=solver.priority).candidates
    left = [other for other in found if other.artifact.filename != package.artifact.filename]
    yield from [other for other in reversed(left) if other.version == package.version][:_TRIES]
    if package.planned is None:
        return
    versions = list(dict.fromkeys(other.version for other in left if other.version != package.version))
    for version in allowed_versions(package.planned, versions)[:_TRIES]:
        yield from [other for other in reversed(left) if other.version == version][:_TRIES]


def _with_solution(lock: Lock, missing: LockedConda, reason: str, solution: Sequence[LockedConda]) -> Lock:
    before = {package.name: package for package in lock.conda}
    packages, deviations = [], list(lock.deviations)
    for package in solution:
        was = before.get(package.name)
        packages.append(was if was == package else with_plan(package, was.planned if was else None))
        if was is not None and package.name == missing.name:
            deviations.append(_deviation(was, package, reason))
    return replace(lock, conda=tuple(packages), deviations=tuple(sorted(deviations, key=lambda d: d.weight)))


def _deviation(was: LockedConda, package: LockedConda, reason: str) -> Deviation:
    planned = was.planned
    same = was.version == package.version
    local, locked = (f"{p.version} {p.build}" if same else p.version for p in (was, package))
    level = planned.level if planned is not None else Level.COMPATIBLE
    requested = planned.requested if planned is not None else None
    return Deviation(package.name, local, locked, level, reason, "conda", requested)


def _short(channel: str) -> str:
    return channel.rpartition("/")[2] or channel
