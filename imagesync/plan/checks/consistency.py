"""Consistency: whether installed packages fit one another, as ``pip check`` sees it, and the interpreter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagesync.plan.checks.conflict import Conflict
from imagesync.plan.checks.remedy import install_command
from imagesync.plan.requirements import applies, local_markers, parse_requirement
from imagesync.plan.specifiers import parse_version
from imagesync.scan.environment import Environment, Package

_EXTRA_ONLY = re.compile(r";\s*extra\s*==\s*[\"'][^\"']*[\"']\s*\Z")
# What most metadata holds: a name, extras aside, and plain comparisons, without a marker or a URL.
_PLAIN = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*\(?\s*((?:[<>=!~][^\[\];@()]*)?)\)?\s*\Z"
)


def inconsistencies(environment: Environment) -> tuple[Conflict, ...]:
    """Return what ``pip check`` finds in *environment*, and packages that need another Python.

    Missing requirements and wrong versions; extras that nobody can tell were asked for don't count.
    Pre-releases satisfy a specifier, as they do for pip. Ordered by package. Among conda's packages it is
    conda's records that count, which its packagers correct: of their Python metadata only what pip put
    beneath them is looked at.
    """
    installed = {package.name: package for package in environment.packages}
    markers = local_markers(environment.python)
    wanted = [
        _Wanted(package, name, specifier)
        for package in environment.packages
        for name, specifier in dict.fromkeys(_requirements(package, markers))
    ]
    specifiers: dict[str, SpecifierSet] = {}
    conflicts = [
        _python_conflict(package, environment, specifiers)
        for package in environment.packages
        if not package.conda
    ]
    for each in wanted:
        there = installed.get(canonicalize_name(each.name))
        if each.package.conda and (there is None or there.conda):
            continue
        if there is None or not _satisfies(there.version, each.specifier, specifiers):
            conflicts.append(
                Conflict(
                    package=each.package.name,
                    version=each.package.version,
                    requirement=each.name + each.specifier,
                    required=canonicalize_name(each.name),
                    installed=there.version if there else None,
                    remedy=_remedy(each, wanted, environment),
                )
            )
    if environment.conda:
        from imagesync.plan.checks.conda_consistency import conda_inconsistencies

        conflicts += conda_inconsistencies(environment)
    return tuple(sorted(filter(None, conflicts), key=lambda conflict: (conflict.package, conflict.required)))


@dataclass(frozen=True)
class _Wanted:
    package: Package
    name: str
    specifier: str


def _remedy(conflict: _Wanted, wanted: Iterable[_Wanted], environment: Environment) -> str:
    """Return the command that gives every package what it wants of the one that is in question."""
    name = canonicalize_name(conflict.name)
    same = [each for each in wanted if canonicalize_name(each.name) == name]
    try:
        together = SpecifierSet(",".join(each.specifier for each in same if each.specifier))
    except InvalidSpecifier:
        together = SpecifierSet(conflict.specifier)
    if _can_be_met(together):
        return install_command(environment, [f"{conflict.name}{_shortened(together)}"])
    # No version suits them all, so other releases of those that require it must be found.
    return install_command(environment, sorted({each.package.name for each in same}), "--upgrade")


def _shortened(specifiers: SpecifierSet) -> SpecifierSet:
    """Return the same range with the highest of its lower bounds and the lowest of its upper ones."""
    lower = [each for each in specifiers if each.operator == ">="]
    upper = [each for each in specifiers if each.operator == "<"]
    rest = [each for each in specifiers if each.operator not in (">=", "<")]
    rest += sorted(lower, key=lambda each: Version(each.version))[-1:]
    rest += sorted(upper, key=lambda each: Version(each.version))[:1]
    return SpecifierSet(",".join(map(str, rest)))


def _can_be_met(specifiers: SpecifierSet) -> bool:
    # A range that holds any version holds one of its bounds, or the next version after one, or the first.
    bounds = [parse_version(specifier.version.removesuffix(".*")) for specifier in specifiers]
    near = [text for bound in bounds if bound for text in (str(bound), f"{bound.base_version}.1")]
    return any(specifiers.contains(version, prereleases=True) for version in ["0", *near])


def _requirements(package: Package, markers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for line in package.requires:
        if parsed := _parse(line, markers):
            yield parsed


def _parse(line: str, markers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the name and the specifier of a requirement that holds, or ``None`` where it doesn't.

    The two commonest shapes are read without a parser: it takes 40 us a line, these 1 us.
    """
    if _EXTRA_ONLY.search(line):
        return None
    if plain := _PLAIN.match(line):
        return plain[1], plain[2].replace(" ", "")
    requirement = parse_requirement(line)
    # pip passes over what it can't parse; the scan has a finding for it.
    if requirement is None or not applies(requirement, markers):
        return None
    return requirement.name, str(requirement.specifier)


def _satisfies(version: str, specifier: str, specifiers: dict[str, SpecifierSet]) -> bool:
    if not specifier:
        return True
    wanted = specifiers.get(specifier)
    if wanted is None:
        try:
            wanted = specifiers[specifier] = SpecifierSet(specifier)
        except InvalidSpecifier:
            return True
    if parse_version(version) is None:
        # Only a comparison of strings can be met by a version that PEP 440 doesn't know.
        return specifier == f"==={version}"
    return wanted.contains(version, prereleases=True)


def _python_conflict(
    package: Package, environment: Environment, specifiers: dict[str, SpecifierSet]
) -> Conflict | None:
    version = environment.python.version
    wanted = (package.requires_python or "").strip()
    # Debian and builds from git end the version with a plus sign, which PEP 440 has no place for.
    if _satisfies(version.rstrip("+"), wanted, specifiers):
        return None
    return Conflict(
        package=package.name,
        version=package.version,
        requirement=f"python{wanted}",
        required=canonicalize_name("python"),
        installed=version,
        remedy=install_command(environment, [package.name], "--upgrade", "--force-reinstall"),
    )
