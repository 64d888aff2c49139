"""What an index lists and doesn't have any more: found only when the file is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from packaging.utils import NormalizedName

from imagesync.core.names import Level
from imagesync.errors import ArtifactGone, FetchError
from imagesync.lock.lock import Deviation, Lock, LockedPackage, VendoredPackage
from imagesync.lock.resolve_installed import ENOUGH, InstalledContent, allowance, nearest
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.plan.plan import PlannedPackage


def replace_gone(
    lock: Lock,
    gone: Mapping[NormalizedName, ArtifactGone],
    *,
    resolver: Resolver,
    installed_content: InstalledContent,
) -> Lock:
    """Return *lock* with something else for each package whose artifact is gone.

    As for a package that no index lists: the installed files, if they are of that version and hold for
    the target; else the nearest version that the level allows, which is a deviation.

    Parameters
    ----------
    gone
        By package, what the index answered.
    installed_content
        Gives the digest of a package's installed files, if they hold for the target.

    Raises
    ------
    FetchError
        Nothing can take the place of a package, or so much is gone that an index must be broken.
    """
    if len(gone) >= ENOUGH:
        raise _broken(gone)
    packages, vendored, deviations = [], list(lock.vendored), list(lock.deviations)
    request = ResolutionRequest(lock.target, requirements=())
    for package in lock.packages:
        if package.name not in gone:
            packages.append(package)
            continue
        planned, why = package.planned, _why(package)
        if planned is None:
            raise gone[package.name]  # not what is installed here, so nothing here can stand in for it
        if content := installed_content(planned):
            vendored.append(VendoredPackage(package.name, package.version, content, planned, why))
        elif (other := nearest(planned, request, resolver, besides=package.version)) is not None:
            packages.append(other)
            deviations.append(Deviation(other.name, package.version, other.version, planned.level, why))
        else:
            raise _no_other(planned, gone[package.name])
    return replace(
        lock,
        packages=tuple(packages),
        vendored=tuple(sorted(vendored, key=lambda package: package.name)),
        deviations=tuple(sorted(deviations, key=lambda deviation: deviation.weight)),
    )


def _why(package: LockedPackage) -> str:
    return f"the index lists {package.artifact.filename}, and doesn't have it any more"


def _no_other(planned: PlannedPackage, gone: ArtifactGone) -> FetchError:
    ways = ["Install a version that the index has, or ask whoever runs it to put the file back."]
    if planned.level not in (Level.CRITICAL, Level.EXACT):
        ways.append(
            f'To take the nearest version instead, set levels = {{ {planned.name} = "exact" }} '
            "in [tool.imagesync]."
        )
    return FetchError(
        f"{gone.message}. The files that are installed here don't hold for the image, and no other version "
        f"will do ({planned.name}: {allowance(planned)}).",
        hint="\n".join(ways),
    )


def _broken(gone: Mapping[NormalizedName, ArtifactGone]) -> FetchError:
    first = "\n".join(f"- {error.message}" for error in list(gone.values())[:3])
    return FetchError(
        f"{len(gone)} files that the index lists can't be had from it, so something is wrong with it:\n"
        + first,
        hint="Look at `pip config list`.\nTo take everything as it is installed here and ask no index: "
        "PIP_NO_INDEX=1 imagesync build",
    )
