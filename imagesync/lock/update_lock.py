"""Updating a lock while its artifacts are fetched and built.

Artifacts that an index lists but doesn't have any more are replaced, and the wheels made here may have other
versions than those that are installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from packaging.utils import NormalizedName, parse_wheel_filename

from imagesync.core.names import is_same_version
from imagesync.errors import ArtifactGone, FetchError
from imagesync.indexes.pypi.index_problems import WITHOUT_INDEX
from imagesync.lock.lock import Deviation, Lock
from imagesync.lock.locked_packages import LockedPackage, VendoredPackage
from imagesync.lock.resolve_installed import (
    TOO_MANY,
    InstalledDigest,
    allowance,
    resolve_nearest,
)
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.plan.install_commands import levels_that_help
from imagesync.plan.plan import PlannedPackage

_NEEDS_BUILD = "only a build back-end can make its wheel, and for files with --prefix none is run"
_VERSION_CHANGED = "its sources have changed their version since it was installed"


def replace_missing(
    lock: Lock,
    missing: Mapping[NormalizedName, ArtifactGone],
    *,
    resolver: Resolver,
    installed_digest: InstalledDigest,
) -> Lock:
    """Return *lock* with a replacement for each package whose artifact is missing.

    The replacement is a wheel of the installed files, if they are of that version and fit the target; else
    the nearest version that the level allows, which is a deviation. *missing* has the answers of the index by
    package name.

    Raises
    ------
    FetchError
        A package has no replacement, or so many artifacts are missing that an index must be broken.
    """
    if len(missing) >= TOO_MANY:
        raise _broken_index(missing, resolver)
    packages, vendored, deviations = [], list(lock.vendored), list(lock.deviations)
    request = ResolutionRequest(lock.target, requirements=())
    for package in lock.packages:
        if package.name not in missing:
            packages.append(package)
            continue
        planned, reason = package.planned, _reason(package)
        if planned is None:
            raise missing[package.name]  # another version is installed, so no local files can replace it
        if content := installed_digest(planned):
            vendored.append(VendoredPackage(package.name, package.version, content, planned, reason))
        elif (other := resolve_nearest(planned, request, resolver, excluded=package.version)) is not None:
            packages.append(other)
            deviations.append(Deviation(other.name, package.version, other.version, planned.level, reason))
        else:
            raise _no_other(planned, missing[package.name])
    return replace(
        lock,
        packages=tuple(packages),
        vendored=tuple(sorted(vendored, key=lambda package: package.name)),
        deviations=tuple(sorted(deviations, key=lambda deviation: deviation.weight)),
    )


def _reason(package: LockedPackage) -> str:
    return f"the index lists {package.artifact.filename}, and doesn't have it any more"


def _no_other(planned: PlannedPackage, error: ArtifactGone) -> FetchError:
    ways = ["Install a version that the index has, or ask whoever runs it to put the file back."]
    if levels := levels_that_help([planned]):
        ways.append(levels)
    return FetchError(
        f"{error.message}. The files that are installed here don't hold for the image, and no other version "
        f"will do ({planned.name}: {allowance(planned)}).",
        hint="\n".join(ways),
    )


def _broken_index(missing: Mapping[NormalizedName, ArtifactGone], resolver: Resolver) -> FetchError:
    first = "\n".join(f"- {error.message}" for error in list(missing.values())[:3])
    return FetchError(
        f"{len(missing)} files that the index lists can't be had from it, so something is wrong with it:\n"
        + first,
        hint=f"Look at {resolver.indexes.source}.\n{WITHOUT_INDEX}",
    )


def update_versions(lock: Lock, filenames: Sequence[str], digests: Sequence[str]) -> Lock:
    """Return *lock* with the versions of the built wheels; each changed version is a deviation.

    An editable package whose version was raised after its installation has old metadata, and its wheel the
    new ones. *filenames* are those of the built wheels, and *digests* the digests of their sources, in the
    order of ``lock.vendored``.
    """
    vendored = []
    deviations = list(lock.deviations)
    for locked, filename, content in zip(lock.vendored, filenames, digests, strict=True):
        package = replace(locked, content=content)
        built = str(parse_wheel_filename(filename)[1])
        deviation = version_deviation(package.planned, package.version, built)
        if deviation is None:
            vendored.append(package if package.version else replace(package, version=built))
            continue
        vendored.append(replace(package, version=built))
        deviations.append(deviation)
    deviations.sort(key=lambda deviation: deviation.weight)
    return replace(lock, vendored=tuple(vendored), deviations=tuple(deviations))


def leave_out_unbuilt(lock: Lock, unbuilt: Sequence[VendoredPackage]) -> Lock:
    """Return *lock* without *unbuilt*, whose wheels only a build back-end can make; each is a deviation."""
    left_out = [
        Deviation(
            package.name,
            package.version,
            "",
            package.planned.level,
            _NEEDS_BUILD,
            requested=package.planned.requested,
        )
        for package in unbuilt
    ]
    names = {package.name for package in unbuilt}
    return replace(
        lock,
        vendored=tuple(package for package in lock.vendored if package.name not in names),
        deviations=tuple(sorted((*lock.deviations, *left_out), key=lambda deviation: deviation.weight)),
    )


def version_deviation(package: PlannedPackage, version: str, built: str) -> Deviation | None:
    """Return the deviation of a local package of *version* whose wheel is of *built*, or ``None``.

    There is none where *version* is empty: a lock file has named the source tree alone.
    """
    if not version or is_same_version(version, built):
        return None
    return Deviation(package.name, version, built, package.level, _VERSION_CHANGED)
