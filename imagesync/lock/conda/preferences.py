"""Preferred versions and builds of conda packages: the local ones, or the nearest that the level allows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from imagesync.lock.locked_packages import LockedConda
from imagesync.plan.match_specs import meets_pins
from imagesync.plan.plan import PlannedConda
from imagesync.plan.specifiers import nearest_releases

if TYPE_CHECKING:
    from imagesync.indexes.conda.conda_configuration import ChannelPriority

_SHOWN = 8
# What a build string says besides a feature: hashes, feature versions of Python and others, platforms.
_HASH = re.compile(r"(?:py|np|cp|r|pl|lua)?[0-9]*h(?:[0-9a-f]{7}|[0-9]{1,2})\Z")
_INTERPRETER = re.compile(r"(?:\A|(?<=[0-9]))(?:py|np|cp|r|pl|lua)[0-9.]+\Z")
_PLATFORM_WORDS = frozenset({"linux", "linux64", "macos", "osx", "osx64", "osxarm64", "unix", "win", "win64"})

_BUILD_AFTER_RANGE = re.compile(r"[<>][^=]+=")  # as in "h5py<3.9=mpi_openmpi*"


@dataclass(frozen=True)
class Preference:
    """An installed package, and the version of it that the image should have.

    Parameters
    ----------
    planned
        The installed package.
    version
        The local version, or the nearest one that its channel has and its level allows; empty for none.
    candidates
        The builds in its channel, oldest first.
    channel
        The URL of the channel with the version, if other channels have the name, too; else empty.
    anywhere
        Whether other versions may come from any channel.
    pins
        The user's pins of the package.
    build
        The pattern for the build that the user asked for, if the channel has such a build; else empty.
    """

    planned: PlannedConda
    version: str
    candidates: tuple[LockedConda, ...]
    channel: str = ""
    anywhere: bool = False
    pins: tuple[str, ...] = ()
    build: str = ""

    @property
    def name(self) -> str:
        """Return the conda name."""
        return self.planned.name

    @property
    def pinned(self) -> str:
        """Return the match spec of the preferred version."""
        build = self.build or allowed_specifier(self.planned).partition(" ")[2]
        channel = f"{self.channel}::" if self.channel else ""
        return f"{channel}{self.name} =={self.version} {build}".rstrip()

    @property
    def limited(self) -> str:
        """Return the match spec of the versions that the level allows."""
        return f"{self._prefix}{self.name} {allowed_specifier(self.planned)}".strip()

    @property
    def relaxed(self) -> str:
        """Return the match spec of any version."""
        return f"{self._prefix}{self.name}"

    def holds_in(self, solution: Iterable[LockedConda]) -> bool:
        """Return True if *solution* has the preferred version, of the build that the user asked for."""
        return any(
            package.name == self.name
            and package.version == self.version
            and fnmatchcase(package.build, self.build or "*")
            for package in solution
        )

    @property
    def variants(self) -> frozenset[str]:
        """Return the variants that the channel has of the preferred version."""
        return frozenset(variant_of(p.build) for p in self.candidates if p.version == self.version)

    @property
    def _prefix(self) -> str:
        return f"{self.channel}::" if self.channel and not self.anywhere else ""


def allowed_specifier(planned: PlannedConda) -> str:
    """Return the versions that the level of a package allows, as in a match spec; empty for all."""
    return "" if planned.takes_nearest else planned.specifier


def preference_for(
    planned: PlannedConda,
    found: Sequence[LockedConda],
    channels: Sequence[str],
    *,
    priority: ChannelPriority = "strict",
    pins: Sequence[str] = (),
) -> Preference:
    """Return the preferred version of an installed package.

    A package stays in its own channel, if that has it; else the first channel with it is taken. With flexible
    priority, other channels are taken for versions that the first one lacks; with disabled priority, all
    channels are equal. *found* are the builds in the channels, oldest first.
    """
    recorded = planned.record.channel if planned.record is not None else ""
    having = [channel for channel in channels if any(package.channel == channel for package in found)]
    order = sorted(having, key=lambda channel: channel != recorded)
    groups = [tuple(package for package in found if package.channel == channel) for channel in order]
    if priority == "disabled" or not order:
        groups = [tuple(found)]
    elif priority == "strict":
        groups = groups[:1]
    version, group = _nearest_of(planned, groups, pins)
    having_version = {package.channel for package in group if package.version == version}
    channel = next((channel for channel in order if channel in having_version), "")
    if len(having) < 2 or (priority == "strict" and channel == having[0]):
        channel = ""  # no other channel can be taken
    pattern = _requested_build(planned)
    matches = any(p.version == version and fnmatchcase(p.build, pattern) for p in group)
    build = pattern if matches else ""
    return Preference(planned, version, group, channel, priority == "disabled", tuple(pins), build)


def _requested_build(planned: PlannedConda) -> str:
    """Return the pattern for the build in the spec that the user installed the package by; empty for any."""
    spec = planned.record.requested_spec if planned.record is not None else ""
    # Most specs are a name, with a version at most; rattler takes 80 ms to import.
    has_build = spec.count("=") >= 2 or _BUILD_AFTER_RANGE.search(spec) is not None
    if not has_build and "[" not in spec and " " not in spec.strip():
        return ""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    try:
        return MatchSpec(spec).build or ""
    except (InvalidMatchSpecError, ValueError):
        return ""


def variant_of(build: str) -> str:
    """Return the feature that a build string names; empty for the usual build.

    Hashes, numbers, the feature version of Python and the platform are no features.

    >>> variant_of("mpi_openmpi_py311h1234abc_2"), variant_of("py311h41a922d_0"), variant_of("pyhd8ed1ab_0")
    ('mpi_openmpi', '', '')
    >>> variant_of("25_osxarm64_openblas"), variant_of("cuda120py311h5cbd639_200")
    ('openblas', 'cuda120')
    """
    words = (_INTERPRETER.sub("", _HASH.sub("", word)) for word in build.split("_"))
    return "_".join(word for word in words if word and not word.isdigit() and word not in _PLATFORM_WORDS)


def _nearest_of(
    planned: PlannedConda, groups: Sequence[tuple[LockedConda, ...]], pins: Sequence[str]
) -> tuple[str, tuple[LockedConda, ...]]:
    """Return the version and its group: the local version, else the nearest one of the first group."""
    best = []
    for group in groups:
        versions = dict.fromkeys(package.version for package in group if meets_pins(package, pins))
        best.append((nearest_version(planned, list(versions)) or "", group))
    same = (found for found in best if found[0] == planned.version)
    return next(same, None) or next((found for found in best if found[0]), best[0])


def nearest_version(planned: PlannedConda, versions: Sequence[str]) -> str | None:
    """Return the best of *versions* for an installed package; ``None`` if its level allows none.

    The local version is best. Then, as for packages of an index, the newest one that the specifier allows;
    if it takes the nearest, the newest of the release series, then older ones, then newer ones.
    """
    if planned.version in versions:
        return planned.version
    return next(iter(allowed_versions(planned, versions)), None)


def allowed_versions(planned: PlannedConda, versions: Sequence[str]) -> list[str]:
    """Return those of *versions* that the level of a package allows, nearest first."""
    found: dict[str, None] = {}
    for specifier in _specifiers(planned):
        fitting = (version for version in versions if _contains(specifier, version))
        found |= dict.fromkeys(sorted(fitting, key=_key, reverse=True))
    return list(found)


def _specifiers(planned: PlannedConda) -> Iterator[str]:
    if not planned.takes_nearest:
        yield planned.specifier
        return
    try:
        version = Version(planned.version)
    except InvalidVersion:
        yield ""
        return
    yield from nearest_releases(version)


def _contains(specifier: str, version: str) -> bool:
    # A build may follow the version.
    text = specifier.partition(" ")[0]
    if text in ("", "*"):
        return True
    if text.startswith("==") and not text.endswith(".*"):
        return version == text[2:] or _in_range(text, version, otherwise=False)
    if text.startswith("=") or text[0].isdigit():
        # conda's own syntax for a series and for a version.
        series = text.startswith("=") or text.endswith("*")
        number = text.strip("=*").rstrip(".")
        return version == number or (series and version.startswith(f"{number}."))
    return _in_range(text, version, otherwise=True)


def _in_range(specifier: str, version: str, *, otherwise: bool) -> bool:
    """Return True if *version* is in the range by PEP 440; *otherwise* if the range isn't valid there."""
    try:
        limits = SpecifierSet(specifier)
    except InvalidSpecifier:
        return otherwise
    try:
        return limits.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _key(version: str) -> tuple[int, Version | str]:
    try:
        return 1, Version(version)
    except InvalidVersion:
        return 0, version


def builds_for(preference: Preference, python: str) -> tuple[LockedConda, ...]:
    """Return the builds of the preferred version that fit Python *python* (``3.11``), the best one last.

    Those of the local variant, and of the build that the user asked for, are better than others.
    """
    same = [package for package in preference.candidates if package.version == preference.version]
    digits = f"py{python.replace('.', '')}"
    fitting = (p for p in same if p.noarch or digits in p.build or not _is_for_one_python(p))
    variant, pattern = variant_of(preference.planned.build), preference.build or "*"
    return tuple(
        sorted(fitting, key=lambda p: (fnmatchcase(p.build, pattern), variant_of(p.build) == variant))
    )


def _is_for_one_python(package: LockedConda) -> bool:
    return any(line.partition(" ")[0] == "python_abi" for line in package.depends)


def shown_versions(candidates: Sequence[LockedConda]) -> str:
    """Return the versions of *candidates* as a phrase, at most eight of them.

    >>> shown_versions(())
    'none'
    """
    versions = list(dict.fromkeys(package.version for package in candidates))
    if len(versions) > _SHOWN:
        return f"{', '.join(versions[-_SHOWN:])} and {len(versions) - _SHOWN} older"
    return ", ".join(versions) or "none"
