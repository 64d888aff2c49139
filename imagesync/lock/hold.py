"""Holding the local versions: which of them the indexes have, and the nearest to those that they don't.

No dependencies are looked at here: each package stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from imagesync.errors import UnsolvableError
from imagesync.lock.lock import LockedPackage, Target
from imagesync.lock.resolver import ResolutionRequest, Resolver
from imagesync.plan.plan import Level, PlannedPackage

# An index that refuses everybody, or a platform that nothing is made for, shows after so many.
_ENOUGH = 20


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


def hold(packages: Sequence[PlannedPackage], *, target: Target, resolver: Resolver) -> tuple[Held, ...]:
    """Return an artifact for each of *packages*: of the local version, else of the nearest allowed one.

    Raises
    ------
    UnsolvableError
        Nothing that a package's level allows is there; all such packages are named, each with the reason.
    """
    planned = {package.name: package for package in packages}
    request = ResolutionRequest(target, requirements=())
    found, missing = _divide(list(packages), request, resolver)
    held = {entry.name: Held(planned[entry.name], entry) for entry in found}
    refused: list[tuple[PlannedPackage, str]] = []
    for package, said in missing:
        why = _why(package, target, said)
        if (nearest := _nearest(package, request, resolver)) is None:
            refused.append((package, why))
        else:
            held[package.name] = Held(package, nearest, why)
    if refused:
        raise _refusal(refused, target, more=len(missing) >= _ENOUGH)
    return tuple(held[name] for name in sorted(held))


def pin(name: NormalizedName, version: str) -> str:
    """Return the requirement that *version* alone satisfies.

    >>> pin("torch", "2.1.0+cu121"), pin("pytz", "2004d-final")
    ('torch==2.1.0+cu121', 'pytz===2004d-final')
    """
    try:
        return f"{name}=={Version(version)}"
    except InvalidVersion:
        return f"{name}==={version}"


def _divide(
    packages: list[PlannedPackage], request: ResolutionRequest, resolver: Resolver
) -> tuple[list[LockedPackage], list[tuple[PlannedPackage, str]]]:
    # One question usually answers for all. Otherwise halves are asked until the culprits stand alone:
    # a few more questions for each, and no need to understand the resolver's prose.
    if not packages:
        return [], []
    requirements = tuple(pin(package.name, package.version) for package in packages)
    try:
        return list(resolver.resolve(replace(request, requirements=requirements))), []
    except UnsolvableError as error:
        if len(packages) == 1:
            return [], [(packages[0], error.message)]
    middle = len(packages) // 2
    found, missing = _divide(packages[:middle], request, resolver)
    if len(missing) >= _ENOUGH:
        return found, missing
    further, more = _divide(packages[middle:], request, resolver)
    return found + further, missing + more


def _nearest(package: PlannedPackage, request: ResolutionRequest, resolver: Resolver) -> LockedPackage | None:
    for specifier in dict.fromkeys(allowed(package)):
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


def _why(package: PlannedPackage, target: Target, said: str) -> str:
    requires = package.installed.requires_python if package.installed is not None else None
    try:
        fits = requires is None or SpecifierSet(requires).contains(target.python_version, prereleases=True)
    except InvalidSpecifier:
        fits = True
    if not fits:
        image = target.python_version
        return f"{package.name} {package.version} requires Python {requires}, and the image has {image}"
    return " ".join(said.split()).rstrip(".")


def _refusal(refused: Sequence[tuple[PlannedPackage, str]], target: Target, *, more: bool) -> UnsolvableError:
    lines = [f"- {package.name} ({_allowance(package)}): {why}" for package, why in refused]
    if more:
        lines.append("- and perhaps more: the search stopped here")
    names = [package.name for package, _ in refused if package.level is not Level.CRITICAL]
    ways = [
        "Install versions that the image's Python and platform have, or choose another base image (--base).",
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


def _allowance(package: PlannedPackage) -> str:
    return f"{package.level.value}, any version" if package.level is Level.EXACT else package.specifier
