"""Fetching the conda archives of a lock, with replacements for those that have disappeared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesync.core.names import Level
from imagesync.core.platforms import Platform
from imagesync.errors import ArtifactGone, FetchError, UnsolvableError
from imagesync.lock.conda.archive_files import read_archives
from imagesync.lock.conda.locked_records import external_record, refuse_duplicates
from imagesync.lock.conda.preferences import allowed_versions, preference_for
from imagesync.lock.conda.solve import with_plan
from imagesync.lock.conda.solve_errors import refusal
from imagesync.lock.conda.solver import CondaRequest, CondaSolver, virtual_packages
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import LockedConda, VendoredPackage
from imagesync.plan.plan import PlannedConda, PlannedPackage
from imagesync.store.store import StoredFile

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.conda.channels import Channels

# The distributions of an installed conda package, each with the digest of its files. Empty if the package has
# other files, or if they don't fit the target.
RecordDistributions = Callable[[PlannedConda], Sequence[tuple[PlannedPackage, str]]]
_TRIES = 5


def no_record_distributions(package: PlannedConda) -> tuple[()]:
    """Return no distributions: never use the installed files of *package*."""
    return ()


def repack(package: PlannedConda, reason: str, content: RecordDistributions) -> tuple[VendoredPackage, ...]:
    """Return the distributions of *package* as wheels of its installed files; empty if they don't fit."""
    return tuple(
        VendoredPackage(planned.name, planned.version, digest, planned, reason)
        for planned, digest in content(package)
    )


def repack_missing(
    packages: Sequence[PlannedConda],
    channels: Sequence[str],
    platform: Platform,
    content: RecordDistributions,
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
        raise refusal(refused, channels, platform)
    return tuple(vendored)


def replace_missing_archives(
    lock: Lock,
    missing: Mapping[str, ArtifactGone],
    *,
    solver: CondaSolver,
    record_distributions: RecordDistributions,
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
        vendored = (
            repack(package.planned, reason, record_distributions) if installed and package.planned else ()
        )
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


@dataclass(frozen=True)
class KnownArchive:
    """The archive of a conda package that isn't here, because others have installed it.

    Parameters
    ----------
    file
        Where it would be in the store.
    distributions
        The names of its Python distributions.
    """

    file: StoredFile
    distributions: tuple[NormalizedName, ...]


def fetch_archives(
    lock: Lock,
    *,
    channels: Channels,
    record_distributions: RecordDistributions = no_record_distributions,
    exactly: bool = False,
    known: Mapping[str, KnownArchive] = MappingProxyType({}),
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return *lock* with replacements for missing archives, and the archives of its conda packages in order.

    The process of *channels* is ended. With *exactly*, replacements are refused. Archives of *known*, by the
    names of their packages, aren't fetched.

    Raises
    ------
    FetchError
        An archive is missing and has no replacement.
    LockError
        An archive can't be read, or has a distribution that pip installs, too.
    """
    try:
        return _obtain(lock, channels, None if exactly else record_distributions, known)
    finally:
        channels.close()


def _obtain(
    lock: Lock,
    channels: Channels,
    record_distributions: RecordDistributions | None,
    known: Mapping[str, KnownArchive],
) -> tuple[Lock, tuple[StoredFile, ...]]:
    while lock.conda:
        wanted = [package for package in lock.conda if package.name not in known]
        found = channels.archives(wanted).obtain(wanted) if wanted else ()
        pairs = list(zip(wanted, found, strict=True))
        missing = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
        if not missing:
            files = {package.name: file for package, file in pairs if isinstance(file, StoredFile)}
            files |= {name: archive.file for name, archive in known.items()}
            return _checked(lock, files, known), tuple(files[package.name] for package in lock.conda)
        if record_distributions is None:
            raise _no_replacement(list(missing.values()))
        lock = replace_missing_archives(
            lock, missing, solver=channels, record_distributions=record_distributions
        )
    return lock, ()


def _no_replacement(missing: Sequence[ArtifactGone]) -> FetchError:
    lines = "\n".join(f"- {error.message}" for error in missing)
    subject = "An archive" if len(missing) == 1 else f"{len(missing)} archives"
    return FetchError(
        f"{subject} that the lock file names can't be had any more:\n{lines}",
        hint="Lock again, where the environment is: imagesync lock -o conda-lock.yml\n"
        "Or put what is missing into a package cache (pkgs_dirs).",
    )


def _checked(lock: Lock, files: Mapping[str, StoredFile], known: Mapping[str, KnownArchive]) -> Lock:
    """Return *lock* with the distributions that the archives really have."""
    here = [package.name for package in lock.conda if package.name not in known]
    read = zip(here, read_archives(files[name] for name in here), strict=True)
    found = {name: archive.distributions for name, archive in known.items()}
    found |= {name: info.distributions for name, info in read}
    packages = tuple(replace(package, distributions=found[package.name]) for package in lock.conda)
    refuse_duplicates(packages, [*(p.name for p in lock.packages), *(p.name for p in lock.vendored)])
    return replace(lock, conda=packages)
