"""Resolving the installed versions on the indexes, with replacements for those that the indexes lack.

A version that no index has is made from its installed files, if they fit the target, and so is one that was
built on this machine. Otherwise the level decides which other version is acceptable. Dependencies are
ignored: each package is resolved alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from imagesync.core.names import Level
from imagesync.core.progress import Progress, Severity
from imagesync.errors import LockError, UnsolvableError
from imagesync.indexes.pypi.index_configuration import PYPI
from imagesync.indexes.pypi.index_problems import WITHOUT_INDEX, IndexProblem, unusable
from imagesync.lock.built_here import built_here, is_own_egg
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import LockedPackage, VendoredPackage
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.plan.install_commands import levels_that_help
from imagesync.plan.plan import PlannedPackage
from imagesync.plan.specifiers import nearest_releases

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

# So many missing packages mean that an index is missing, or that nothing supports the platform.
TOO_MANY = 20
# Look up available versions for at most this many rejected packages.
_SHOWN = 5
_PIN_REASON = re.compile(
    r"Because (?P<reason>.+?),? and you require \S+, we can conclude that your requirements are unsatisfiable"
)

# Returns the command that installs requirements in the user's environment.
InstallCommand = Callable[[Sequence[str]], str]
# Returns the digest of the installed files of a package; empty if they don't fit the target.
InstalledDigest = Callable[[PlannedPackage], str]


@dataclass(frozen=True)
class Resolved:
    """An installed package with the artifact that was found for it.

    Parameters
    ----------
    planned
        The planned package.
    locked
        The artifact.
    reason
        Why it isn't of the local version; empty if it is.
    """

    planned: PlannedPackage
    locked: LockedPackage
    reason: str = ""


def no_installed_digest(package: PlannedPackage) -> str:
    """Return an empty digest: never use the installed files of *package*."""
    return ""


def _plain_install(requirements: Sequence[str]) -> str:
    return f"python -m pip install {' '.join(requirements)}"


def resolve_installed(
    packages: Sequence[PlannedPackage],
    *,
    target: Target,
    resolver: Resolver,
    installed_digest: InstalledDigest = no_installed_digest,
    silent: Sequence[str] = (),
    install: InstallCommand = _plain_install,
) -> tuple[tuple[Resolved, ...], tuple[VendoredPackage, ...]]:
    """Return the artifacts of *packages* from indexes, and the packages to make from their installed files.

    The local version is preferred, from an index or else from the installed files; then the nearest version
    that the level allows. The files of a package that was built here come first; where they don't fit, the
    result names the difference.

    Parameters
    ----------
    packages
        The installed packages that come from indexes.
    target
        The platform and interpreter of the image.
    resolver
        Asks the indexes.
    installed_digest
        Returns the digest of a package's installed files, if they fit the target.
    silent
        Indexes that don't answer, for the messages.
    install
        Returns the command that installs other versions in the user's environment, for a message.

    Raises
    ------
    UnsolvableError
        Packages have no version that their level allows; the message names each with the reason.
    LockError
        So many packages are on no index that an index must be missing.
    """
    request = ResolutionRequest(target, requirements=())
    planned = {package.name: package for package in packages}
    built = [
        VendoredPackage(package.name, package.version, content, package, "it is installed as an egg")
        for package in packages
        if is_own_egg(package.installed)
        and _fits_python(package, target)
        and (content := installed_digest(package))
    ]
    eggs = {package.name for package in built}
    asked = [package for package in packages if package.name not in eggs]
    found, missing, unasked = _request(asked, request, resolver)
    resolved = {}
    for entry in found:
        package = planned[entry.name]
        reason = built_here(package.installed, entry.artifact)
        if reason and _fits_python(package, target) and (content := installed_digest(package)):
            built.append(VendoredPackage(package.name, package.version, content, package, reason))
        else:
            resolved[entry.name] = Resolved(package, entry, reason)
    repacked: list[VendoredPackage] = []
    refused: list[tuple[PlannedPackage, str]] = []
    for package, message in missing:
        reason = _reason(package, target, message, silent)
        # If a package needs another patch level of Python, its installed files don't fit either.
        if _fits_python(package, target) and (content := installed_digest(package)):
            repacked.append(VendoredPackage(package.name, package.version, content, package, reason))
        elif (other := resolve_nearest(package, request, resolver)) is None:
            refused.append((package, reason))
        else:
            resolved[package.name] = Resolved(package, other, reason)
    if refused:
        others = _others(refused, request, resolver)
        source = resolver.indexes.source
        raise _refusal(refused, target, others, source=source, more=bool(unasked), install=install)
    if len(repacked) >= TOO_MANY and not resolver.indexes.no_index:
        raise _too_many(repacked, resolver)
    repacked += built
    if unasked:
        further, more = resolve_installed(
            unasked,
            target=target,
            resolver=resolver,
            installed_digest=installed_digest,
            silent=silent,
            install=install,
        )
        resolved |= {entry.planned.name: entry for entry in further}
        repacked += more
    return tuple(resolved[name] for name in sorted(resolved)), tuple(repacked)


def resolve_on_usable_indexes(
    packages: Sequence[PlannedPackage],
    *,
    target: Target,
    resolver: Resolver,
    installed_digest: InstalledDigest,
    progress: Progress,
    on_silent: Callable[[Sequence[str]], None] | None,
    install: InstallCommand,
) -> tuple[tuple[Resolved, ...], tuple[VendoredPackage, ...], Resolver]:
    """Resolve *packages* on the indexes that can be used; also return a resolver of these indexes."""
    failure: LockError | None = None
    resolved: tuple[Resolved, ...] = ()
    repacked: tuple[VendoredPackage, ...] = ()
    try:
        resolved, repacked = resolve_installed(
            packages, target=target, resolver=resolver, installed_digest=installed_digest, install=install
        )
    except LockError as error:
        failure = error
    # A missing package may be on an index that can't be used, which pip doesn't always report.
    problems = resolver.index_problems(packages[0].name) if failure is not None or repacked else ()
    if refusing := [problem for problem in problems if problem.refuses]:
        raise unusable(refusing) from failure
    if problems and not _is_any_left(resolver.indexes, problems):
        raise unusable(problems) from failure
    if not problems or isinstance(failure, UnsolvableError):
        if failure is not None:
            raise failure
        return resolved, repacked, resolver
    for problem in problems:
        progress.line(f"{problem.url} {problem.reason}; going on without it.", Severity.WARNING)
    silent = tuple(problem.url for problem in problems)
    if on_silent is not None:
        on_silent(silent)
    resolver = resolver.without(silent)
    resolved, repacked = resolve_installed(
        packages,
        target=target,
        resolver=resolver,
        installed_digest=installed_digest,
        silent=silent,
        install=install,
    )
    return resolved, repacked, resolver


def _is_any_left(indexes: IndexConfiguration, problems: Sequence[IndexProblem]) -> bool:
    """Return True if an index can be used; as pip does, go on if at least one does."""
    urls = indexes.public_urls
    if not urls:
        return all(problem.url != PYPI for problem in problems)
    # Without a configured main index, pip asks PyPI, too.
    return indexes.index_url is None or not set(urls) <= {problem.url for problem in problems}


def pin(name: NormalizedName, version: str) -> str:
    """Return the requirement that only *version* satisfies.

    >>> pin("torch", "2.1.0+cu121"), pin("pytz", "2004d-final")
    ('torch==2.1.0+cu121', 'pytz===2004d-final')
    """
    try:
        return f"{name}=={Version(version)}"
    except InvalidVersion:
        return f"{name}==={version}"


def _request(
    packages: list[PlannedPackage], request: ResolutionRequest, resolver: Resolver
) -> tuple[list[LockedPackage], list[tuple[PlannedPackage, str]], list[PlannedPackage]]:
    """Return the artifacts, the missing packages with messages, and those not asked for after too many."""
    indexes = resolver.indexes
    if indexes.no_index and not indexes.find_links:
        return [], [(package, "no index may be asked (no-index)") for package in packages], []
    found: list[LockedPackage] = []
    missing: list[tuple[PlannedPackage, str]] = []
    # One request usually resolves all. Otherwise halves are requested until the missing packages are alone,
    # which needs no parsing of the resolver's messages.
    waiting = [packages] if packages else []
    while waiting and (len(missing) < TOO_MANY or indexes.no_index):
        part = waiting.pop()
        requirements = tuple(pin(package.name, package.version) for package in part)
        try:
            found += resolver.resolve(replace(request, requirements=requirements))
        except UnsolvableError as error:
            if len(part) == 1:
                missing.append((part[0], error.message))
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
    return found, missing, [package for part in reversed(waiting) for package in part]


def resolve_nearest(
    package: PlannedPackage, request: ResolutionRequest, resolver: Resolver, *, excluded: str = ""
) -> LockedPackage | None:
    """Return the nearest version of *package* that its level allows; ``None`` if the indexes have none.

    *request* has no requirements; *excluded* is a version that won't do.
    """
    for specifier in dict.fromkeys(allowed_specifiers(package)):
        if excluded:
            specifier = f"{specifier},!={excluded}".lstrip(",")  # noqa: PLW2901 - the same, narrowed
        try:
            (locked,) = resolver.resolve(replace(request, requirements=(f"{package.name}{specifier}",)))
        except UnsolvableError:
            continue
        return locked
    return None


def allowed_specifiers(package: PlannedPackage) -> Iterator[str]:
    """Yield specifiers for other versions than the local one that the level allows, nearest first."""
    try:
        version, specifiers = Version(package.version), SpecifierSet(package.specifier)
    except (InvalidVersion, InvalidSpecifier):
        return
    nearest = package.takes_nearest
    if version.local is not None and (nearest or specifiers.contains(version.public, prereleases=True)):
        yield f"=={version.public}"
    if nearest:
        yield from nearest_releases(version)
    elif str(specifiers) != f"=={version}":
        yield package.specifier


def _fits_python(package: PlannedPackage, target: Target) -> bool:
    requires = package.installed.requires_python if package.installed is not None else None
    try:
        return requires is None or SpecifierSet(requires).contains(target.python_version, prereleases=True)
    except InvalidSpecifier:
        return True


def _reason(package: PlannedPackage, target: Target, message: str, silent: Sequence[str]) -> str:
    if package.installed is not None and not _fits_python(package, target):
        requires, image = package.installed.requires_python, target.python_version
        return f"{package.name} {package.version} requires Python {requires}, and the image has {image}"
    reason = " ".join(message.split()).rstrip(".")
    # uv concludes from the pin, which isn't what the user requires, that nothing satisfies the requirements.
    if match := _PIN_REASON.fullmatch(reason):
        reason = match["reason"]
    return reason + (f"; {' and '.join(silent)} can't be asked, for it doesn't answer" if silent else "")


def _too_many(repacked: Sequence[VendoredPackage], resolver: Resolver) -> LockError:
    first = "\n".join(f"- {package.name} {package.version}: {package.repacked}" for package in repacked[:3])
    return LockError(
        f"{len(repacked)} packages and perhaps more are on none of the indexes, so an index seems to be "
        f"missing:\n{first}",
        hint=f"Look at {resolver.indexes.source}.\n{WITHOUT_INDEX}",
    )


def _others(
    refused: Sequence[tuple[PlannedPackage, str]], request: ResolutionRequest, resolver: Resolver
) -> dict[NormalizedName, str]:
    """Return the nearest version of the first *refused* packages, regardless of their levels."""
    found = {
        package.name: resolve_nearest(
            replace(package, level=Level.NEAREST), replace(request, versions_only=True), resolver
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
    source: str,
    more: bool,
    install: InstallCommand,
) -> UnsolvableError:
    lines = [
        f"- {package.name} ({allowance(package)}): {reason}"
        + (f"; the nearest that fits is {others[package.name]}" if package.name in others else "")
        for package, reason in refused
    ]
    if more:
        lines.append("- and perhaps more: the search stopped here")
    command = install([f"{name}=={version}" for name, version in others.items()]) if others else ""
    ways = [
        "Install versions that the image's Python and platform have"
        f"{f' ({command})' if command else ''}, or choose another base image (--base).",
        f"Where an index is missing, look at {source}.",
    ]
    if levels := levels_that_help(package for package, _ in refused):
        ways.append(levels)
    subject = "1 package" if len(refused) == 1 else f"{len(refused)} packages"
    where = f"{target.platform}, Python {target.python_version}, glibc {'.'.join(map(str, target.glibc))}"
    return UnsolvableError(
        f"No version that the plan allows of {subject} fits {where}:\n" + "\n".join(lines),
        hint="\n".join(ways),
    )


def allowance(package: PlannedPackage) -> str:
    """Return the versions that the level of *package* allows, for a message."""
    return f"{package.version} or the nearest" if package.level is Level.NEAREST else package.specifier
