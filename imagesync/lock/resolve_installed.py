"""Holding the local versions: which of them the indexes have, and what to take for those that they don't.

What no index has is made from its installed files where these hold for the target: exactly what runs here.
Else the level decides which version is near enough. No dependencies are looked at: each package stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from imagesync.core.names import Level
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.lock import LockedPackage, Target, VendoredPackage
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.plan.plan import PlannedPackage

if TYPE_CHECKING:
    from packaging.utils import NormalizedName
# An index that refuses everybody, or a platform that nothing is made for, shows after so many.
ENOUGH = 20
# Of how many refused packages it is looked up which version there is.
_SHOWN = 5

# The digest of the installed files of a package; empty where they don't hold for the target.
InstalledContent = Callable[[PlannedPackage], str]


@dataclass(frozen=True)
class Held:
    """A package with the artifact that was found for it.

    Parameters
    ----------
    why
        Why it isn't the local version, in words; empty where it is.
    """

    planned: PlannedPackage
    locked: LockedPackage
    why: str = ""


def no_installed_content(package: PlannedPackage) -> str:
    """Return that the installed files of *package* aren't to be used."""
    return ""


def hold(
    packages: Sequence[PlannedPackage],
    *,
    target: Target,
    resolver: Resolver,
    installed_content: InstalledContent = no_installed_content,
    silent: Sequence[str] = (),
) -> tuple[tuple[Held, ...], tuple[VendoredPackage, ...]]:
    """Return what the image gets for each of *packages*: from an index, or made from what is installed.

    The local version comes first, from an index; then the same from the installed files; then the
    nearest version that the level allows.

    Parameters
    ----------
    silent
        Indexes that aren't asked because they don't answer, for the reasons given.

    Raises
    ------
    UnsolvableError
        Nothing that a package's level allows is there; all such packages are named, each with the reason.
    LockError
        So many packages are on no index that an index must be missing.
    """
    request = ResolutionRequest(target, requirements=())
    found, missing, unasked = _ask(list(packages), request, resolver)
    planned = {package.name: package for package in packages}
    held = {entry.name: Held(planned[entry.name], entry) for entry in found}
    repacked: list[VendoredPackage] = []
    refused: list[tuple[PlannedPackage, str]] = []
    for package, said in missing:
        why = _why(package, target, said, silent)
        # The installed files of a package that needs another patch level of Python are no help either.
        if _fits_python(package, target) and (content := installed_content(package)):
            repacked.append(VendoredPackage(package.name, package.version, content, package, why))
        elif (other := nearest(package, request, resolver)) is None:
            refused.append((package, why))
        else:
            held[package.name] = Held(package, other, why)
    if refused:
        others = _others(refused, request, resolver)
        raise _refusal(refused, target, others, more=bool(unasked))
    if len(repacked) >= ENOUGH and not resolver.indexes.no_index:
        raise _too_many(repacked)
    if unasked:
        further, more = hold(
            unasked, target=target, resolver=resolver, installed_content=installed_content, silent=silent
        )
        held |= {entry.planned.name: entry for entry in further}
        repacked += more
    return tuple(held[name] for name in sorted(held)), tuple(repacked)


def pin(name: NormalizedName, version: str) -> str:
    """Return the requirement that *version* alone satisfies.

    >>> pin("torch", "2.1.0+cu121"), pin("pytz", "2004d-final")
    ('torch==2.1.0+cu121', 'pytz===2004d-final')
    """
    try:
        return f"{name}=={Version(version)}"
    except InvalidVersion:
        return f"{name}==={version}"


def _ask(
    packages: list[PlannedPackage], request: ResolutionRequest, resolver: Resolver
) -> tuple[list[LockedPackage], list[tuple[PlannedPackage, str]], list[PlannedPackage]]:
    """Return what was found, what is missing and why, and what wasn't asked because too much is missing."""
    indexes = resolver.indexes
    if indexes.no_index and not indexes.find_links:
        return [], [(package, "no index may be asked (no-index)") for package in packages], []
    found: list[LockedPackage] = []
    missing: list[tuple[PlannedPackage, str]] = []
    # One question usually answers for all. Otherwise halves are asked until the culprits stand alone:
    # a few more questions for each, and no need to understand the resolver's prose.
    waiting = [packages] if packages else []
    while waiting and (len(missing) < ENOUGH or indexes.no_index):
        asked = waiting.pop()
        requirements = tuple(pin(package.name, package.version) for package in asked)
        try:
            found += resolver.resolve(replace(request, requirements=requirements))
        except UnsolvableError as error:
            if len(asked) == 1:
                missing.append((asked[0], error.message))
            else:
                middle = len(asked) // 2
                waiting += [asked[middle:], asked[:middle]]
    return found, missing, [package for part in reversed(waiting) for package in part]


def nearest(
    package: PlannedPackage, request: ResolutionRequest, resolver: Resolver, *, besides: str = ""
) -> LockedPackage | None:
    """Return the nearest version of *package* that its level allows; ``None`` where an index has none.

    Parameters
    ----------
    request
        What to ask beside its requirements.
    besides
        A version that won't do.
    """
    for specifier in dict.fromkeys(allowed(package)):
        if besides:
            specifier = f"{specifier},!={besides}".lstrip(",")  # noqa: PLW2901 - the same, narrowed
        try:
            (locked,) = resolver.resolve(replace(request, requirements=(f"{package.name}{specifier}",)))
        except UnsolvableError:
            continue
        return locked
    return None


def allowed(package: PlannedPackage) -> Iterator[str]:
    """Yield what to try instead of the local version, nearest first, as far as the level allows."""
    try:
        version, specifiers = Version(package.version), SpecifierSet(package.specifier)
    except (InvalidVersion, InvalidSpecifier):
        return
    exact = package.level is Level.EXACT
    if version.local is not None and (exact or specifiers.contains(version.public, prereleases=True)):
        yield f"=={version.public}"
    if exact:
        epoch = f"{version.epoch}!" if version.epoch else ""
        yield f"=={epoch}{version.major}.{version.minor}.*"
        yield f"=={epoch}{version.major}.*,<{version.public}"
        yield f"=={epoch}{version.major}.*"
        yield f"<{version.public}"
        yield ""
    elif str(specifiers) != f"=={version}":
        yield package.specifier


def _fits_python(package: PlannedPackage, target: Target) -> bool:
    requires = package.installed.requires_python if package.installed is not None else None
    try:
        return requires is None or SpecifierSet(requires).contains(target.python_version, prereleases=True)
    except InvalidSpecifier:
        return True


def _why(package: PlannedPackage, target: Target, said: str, silent: Sequence[str]) -> str:
    if package.installed is not None and not _fits_python(package, target):
        requires, image = package.installed.requires_python, target.python_version
        return f"{package.name} {package.version} requires Python {requires}, and the image has {image}"
    reason = " ".join(said.split()).rstrip(".")
    return reason + (f"; {' and '.join(silent)} can't be asked, for it doesn't answer" if silent else "")


def _too_many(repacked: Sequence[VendoredPackage]) -> LockError:
    first = "\n".join(f"- {package.name} {package.version}: {package.repacked}" for package in repacked[:3])
    return LockError(
        f"{len(repacked)} packages and perhaps more are on none of the indexes, so an index seems to be "
        f"missing:\n{first}",
        hint="Look at `pip config list`.\nTo take everything as it is installed here and ask no index: "
        "PIP_NO_INDEX=1 imagesync build",
    )


def _others(
    refused: Sequence[tuple[PlannedPackage, str]], request: ResolutionRequest, resolver: Resolver
) -> dict[NormalizedName, str]:
    """Return the nearest version of each of the first *refused* packages that no level keeps from it."""
    found = {
        package.name: nearest(
            replace(package, level=Level.EXACT), replace(request, versions_only=True), resolver
        )
        for package, _ in refused[:_SHOWN]
        if not (resolver.indexes.no_index and not resolver.indexes.find_links)
    }
    return {name: other.version for name, other in found.items() if other is not None}


def _refusal(
    refused: Sequence[tuple[PlannedPackage, str]],
    target: Target,
    others: Mapping[NormalizedName, str],
    *,
    more: bool,
) -> UnsolvableError:
    lines = [
        f"- {package.name} ({allowance(package)}): {why}"
        + (f"; the nearest that fits is {others[package.name]}" if package.name in others else "")
        for package, why in refused
    ]
    if more:
        lines.append("- and perhaps more: the search stopped here")
    names = [package.name for package, _ in refused if package.level is not Level.CRITICAL]
    command = " ".join(f"{name}=={version}" for name, version in others.items())
    ways = [
        "Install versions that the image's Python and platform have"
        f"{f' (python -m pip install {command})' if command else ''}, or choose another base image (--base).",
        "Where an index is missing, look at `pip config list`.",
    ]
    if names:
        settings = ", ".join(f'{name} = "exact"' for name in names[:3])
        ways.append(
            f"To take the nearest version instead, set levels = {{ {settings} }} in [tool.imagesync]."
        )
    subject = "1 package" if len(refused) == 1 else f"{len(refused)} packages"
    where = f"{target.platform}, Python {target.python_version}, glibc {'.'.join(map(str, target.glibc))}"
    return UnsolvableError(
        f"No version that the plan allows of {subject} fits {where}:\n" + "\n".join(lines),
        hint="\n".join(ways),
    )


def allowance(package: PlannedPackage) -> str:
    """Return which versions the level of *package* allows, for a message."""
    return f"{package.level.value}, any version" if package.level is Level.EXACT else package.specifier
