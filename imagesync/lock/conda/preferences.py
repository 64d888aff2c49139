"""Which versions to look for in channels: the local one, then what its level allows, nearest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from imagesync.core.names import Level
from imagesync.lock.lock import LockedConda
from imagesync.plan.match_specs import meets_pins
from imagesync.plan.plan import PlannedConda

if TYPE_CHECKING:
    from imagesync.indexes.conda.configuration import ChannelPriority

_SHOWN = 8


@dataclass(frozen=True)
class Wanted:
    """An installed package, and what the image should have of it.

    Parameters
    ----------
    version
        The local version, or the nearest that its channel has and its level allows.
    candidates
        What its channel has, oldest first.
    channel
        The URL of the channel that has the version, where another one might be taken; else empty.
    anywhere
        Whether another version may be any channel's.
    pins
        Match specs of the user's that hold beside the level.
    """

    planned: PlannedConda
    version: str
    candidates: tuple[LockedConda, ...]
    channel: str = ""
    anywhere: bool = False
    pins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the conda name."""
        return self.planned.name

    @property
    def pinned(self) -> str:
        """Return the match spec that only the wanted version satisfies."""
        build = limit(self.planned).partition(" ")[2]
        channel = f"{self.channel}::" if self.channel else ""
        return f"{channel}{self.name} =={self.version} {build}".rstrip()

    @property
    def limited(self) -> str:
        """Return the match spec of all versions that the level allows."""
        return f"{self._prefix}{self.name} {limit(self.planned)}".strip()

    @property
    def relaxed(self) -> str:
        """Return the match spec of any version."""
        return f"{self._prefix}{self.name}"

    @property
    def _prefix(self) -> str:
        return f"{self.channel}::" if self.channel and not self.anywhere else ""


def limit(planned: PlannedConda) -> str:
    """Return the versions that a package's level allows, as a match spec writes them; empty for all."""
    return "" if planned.level is Level.EXACT else planned.specifier


def want(
    planned: PlannedConda,
    found: Sequence[LockedConda],
    channels: Sequence[str],
    *,
    priority: ChannelPriority = "strict",
    pins: Sequence[str] = (),
) -> Wanted:
    """Return what to look for in place of an installed package.

    A package stays in the channel that it is from, if that has it, else the first that does. Another one is
    looked at only where the priority of channels isn't strict: if it is flexible, for what the first has not,
    and if it is disabled, for whatever is nearest.

    Parameters
    ----------
    found
        What the channels have of it, oldest first.
    channels
        URLs, the first wins.
    pins
        Match specs that hold for it.
    """
    own = planned.record.channel if planned.record is not None else ""
    having = [channel for channel in channels if any(package.channel == channel for package in found)]
    order = sorted(having, key=lambda channel: channel != own)
    groups = [tuple(package for package in found if package.channel == channel) for channel in order]
    if priority == "disabled" or not order:
        groups = [tuple(found)]
    elif priority == "strict":
        groups = groups[:1]
    version, group = _nearest_of(planned, groups, pins)
    there = {package.channel for package in group if package.version == version}
    channel = next((channel for channel in order if channel in there), "")
    if len(having) < 2 or (priority == "strict" and channel == having[0]):
        channel = ""  # no other one can be taken
    return Wanted(planned, version, group, channel, priority == "disabled", tuple(pins))


def _nearest_of(
    planned: PlannedConda, groups: Sequence[tuple[LockedConda, ...]], pins: Sequence[str]
) -> tuple[str, tuple[LockedConda, ...]]:
    """Return the version to take and the group that has it: the local one, else the first group's nearest."""
    best = []
    for group in groups:
        versions = dict.fromkeys(package.version for package in group if meets_pins(package, pins))
        best.append((nearest(planned, list(versions)) or "", group))
    same = (found for found in best if found[0] == planned.version)
    return next(same, None) or next((found for found in best if found[0]), best[0])


def nearest(planned: PlannedConda, versions: Sequence[str]) -> str | None:
    """Return the version of *versions* to take for an installed package; ``None`` where none is allowed.

    The local one comes first, then by the level, as for packages of an index: the newest that the specifier
    allows; for :attr:`Level.EXACT` the newest of the release series, then older ones, then newer ones.
    """
    if planned.version in versions:
        return planned.version
    return next(iter(allowed_versions(planned, versions)), None)


def allowed_versions(planned: PlannedConda, versions: Sequence[str]) -> list[str]:
    """Return those of *versions* that a package's level allows, nearest first."""
    found: dict[str, None] = {}
    for specifier in _ladder(planned):
        fitting = (version for version in versions if _contains(specifier, version))
        found |= dict.fromkeys(sorted(fitting, key=_key, reverse=True))
    return list(found)


def _ladder(planned: PlannedConda) -> Iterator[str]:
    if planned.level is not Level.EXACT:
        yield planned.specifier
        return
    try:
        version = Version(planned.version)
    except InvalidVersion:
        yield ""
        return
    epoch = f"{version.epoch}!" if version.epoch else ""
    yield f"=={epoch}{version.major}.{version.minor}.*"
    yield f"=={epoch}{version.major}.*,<{version.public}"
    yield f"=={epoch}{version.major}.*"
    yield f"<{version.public}"
    yield ""


def _contains(specifier: str, version: str) -> bool:
    # A build may follow, which says nothing of versions.
    text = specifier.partition(" ")[0]
    if text in ("", "*"):
        return True
    if text.startswith("==") and not text.endswith(".*"):
        return version == text[2:] or _in_range(text, version, otherwise=False)
    if text.startswith("=") or text[0].isdigit():
        # conda's own ways to write a series, and a version.
        series = text.startswith("=") or text.endswith("*")
        number = text.strip("=*").rstrip(".")
        return version == number or (series and version.startswith(f"{number}."))
    return _in_range(text, version, otherwise=True)


def _in_range(specifier: str, version: str, *, otherwise: bool) -> bool:
    """Return whether PEP 440 has *version* in the range; *otherwise* where it can't read the range."""
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


def builds_for(wanted: Wanted, python: str) -> tuple[LockedConda, ...]:
    """Return the builds of the wanted version that fit Python *python* (``3.11``), the last one best."""
    same = [package for package in wanted.candidates if package.version == wanted.version]
    digits = f"py{python.replace('.', '')}"
    return tuple(p for p in same if p.noarch or digits in p.build or not _is_for_one_python(p))


def _is_for_one_python(package: LockedConda) -> bool:
    return any(line.partition(" ")[0] == "python_abi" for line in package.depends)


def shown_versions(candidates: Sequence[LockedConda]) -> str:
    """Return the versions of *candidates* in words, at most eight of them.

    >>> shown_versions(())
    'none'
    """
    versions = list(dict.fromkeys(package.version for package in candidates))
    if len(versions) > _SHOWN:
        return f"{', '.join(versions[-_SHOWN:])} and {len(versions) - _SHOWN} older"
    return ", ".join(versions) or "none"


def by_name(wanted: Sequence[Wanted]) -> Mapping[str, Wanted]:
    """Return *wanted* by conda name."""
    return {entry.name: entry for entry in wanted}
