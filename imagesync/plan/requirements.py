"""Requirements of installed packages on one another, by the markers of the image."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from imagesync.core.names import canonical_name
from imagesync.core.platforms import Platform
from imagesync.scan.environment import Interpreter, Package

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA_ONLY = re.compile(r"extra\s*==")


def local_markers(python: Interpreter) -> dict[str, str]:
    """Return the marker values (PEP 508) of *python* itself; a scan of files only knows some of them."""
    operating_system = python.platform.partition("-")[0]
    system = {"linux": "Linux", "macosx": "Darwin", "win32": "Windows", "win": "Windows"}
    platforms = {"linux": "linux", "macosx": "darwin", "win32": "win32", "win": "win32"}
    return {
        **_python_markers(python),
        "os_name": "nt" if operating_system.startswith("win") else "posix",
        "platform_machine": python.platform.rpartition("-")[2],
        "platform_release": "",
        "platform_system": system.get(operating_system, ""),
        "platform_version": "",
        "sys_platform": platforms.get(operating_system, operating_system),
        **python.markers,
    }


def target_markers(python: Interpreter, platform: Platform) -> dict[str, str]:
    """Return the marker values (PEP 508) of the image: those of *python* on *platform*.

    Values that only a running machine has (``platform_release``, ``platform_version``) are empty.
    """
    return {
        **_python_markers(python),
        "os_name": "posix",
        "platform_machine": platform.machine,
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "sys_platform": "linux",
    }


def _python_markers(python: Interpreter) -> dict[str, str]:
    return {
        "implementation_name": python.implementation,
        "implementation_version": python.version,
        "platform_python_implementation": "CPython",
        "python_full_version": python.version,
        "python_version": python.minor,
    }


def parse_requirement(line: str) -> Requirement | None:
    """Return a parsed ``Requires-Dist`` line, or ``None`` if it isn't valid under PEP 508."""
    # Importing it takes 10 ms, and most builds that find their image don't need it.
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(line)
    # packaging evaluates strings in markers as Python's, and descends into each parenthesis.
    except (InvalidRequirement, SyntaxError, ValueError, RecursionError):
        return None


def applies(requirement: Requirement, markers: Mapping[str, str], extras: Iterable[str] = ("",)) -> bool:
    """Return True if *requirement* holds for *markers* and one of the *extras* (``""`` for none)."""
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

    if requirement.marker is None:
        return True
    try:
        return any(requirement.marker.evaluate({**markers, "extra": extra}) for extra in extras)
    except (UndefinedComparison, UndefinedEnvironmentName):
        return False


def requirers(
    packages: Iterable[Package], wanted: Collection[NormalizedName], markers: Mapping[str, str]
) -> dict[NormalizedName, list[NormalizedName]]:
    """Return the required names among *wanted*, each with the *packages* that require it, extras aside."""
    found: dict[NormalizedName, list[NormalizedName]] = {}
    for package in packages:
        for line in package.requires:
            match = _NAME.match(line)
            if match is None or (name := canonical_name(match[1])) not in wanted:
                continue
            if package.name not in found.get(name, ()) and line_applies(line, markers):
                found.setdefault(name, []).append(package.name)
    return found


def requirements_on(
    package: Package, markers: Mapping[str, str], names: Collection[NormalizedName]
) -> Iterator[Requirement]:
    """Yield the requirements of *package* on the packages *names*, extras aside."""
    for line in package.requires:
        match = _NAME.match(line)
        if match is not None and canonical_name(match[1]) in names and line_applies(line, markers):
            requirement = parse_requirement(line)
            if requirement is not None:
                yield requirement


def line_applies(line: str, markers: Mapping[str, str]) -> bool:
    """Return True if the ``Requires-Dist`` *line* holds for *markers*, extras aside."""
    # The two common shapes need no parser: no marker, and the requirement of an extra.
    _, semicolon, marker = line.partition(";")
    if not semicolon:
        return True
    if _EXTRA_ONLY.search(marker) and " or " not in marker:
        return False
    requirement = parse_requirement(line)
    return requirement is not None and applies(requirement, markers)


def closure(
    packages: Mapping[NormalizedName, Package], roots: Iterable[NormalizedName], markers: Mapping[str, str]
) -> frozenset[NormalizedName]:
    """Return *roots* and all their direct and indirect requirements, including extras.

    Names outside *packages* are included; their own requirements are unknown.
    """
    todo: list[tuple[NormalizedName, str]] = [(name, "") for name in roots]
    seen: set[tuple[NormalizedName, str]] = set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name in packages:
            todo.extend(_direct(packages[name], extra, markers))
    return frozenset(name for name, _ in seen)


def _direct(package: Package, extra: str, markers: Mapping[str, str]) -> Iterator[tuple[NormalizedName, str]]:
    for line in package.requires:
        requirement = parse_requirement(line)
        if requirement is not None and applies(requirement, markers, (extra,)):
            name = canonical_name(requirement.name)
            yield name, ""
            for requested in requirement.extras:
                yield name, requested
