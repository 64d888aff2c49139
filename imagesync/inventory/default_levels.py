"""Default levels for entries without a plan: other tools' locks, workers without an inventory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from imagesync.core.names import Level, canonical_name
from imagesync.inventory.inventory import Entry
from imagesync.plan.levels import load_levels
from imagesync.plan.profiles import load_profiles
from imagesync.plan.specifiers import arbitrary, compatible, exact, parse_version


def with_levels(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return *entries* with the shipped levels for those that have none."""
    entries = tuple(entries)
    names = {entry.name for entry in entries}
    rules = load_levels()
    critical = {
        package.name
        for profile in load_profiles().values()
        if not names.isdisjoint(profile.chosen_by)
        for package in profile.critical
    }

    def level(entry: Entry) -> Level:
        if entry.kind == "python" or entry.name in critical:
            return Level.CRITICAL
        rule = rules.find(canonical_name(entry.name))
        return Level.COMPATIBLE if rule is None else rule.level

    return tuple(_with_level(entry, level(entry)) if entry.level is None else entry for entry in entries)


def _with_level(entry: Entry, level: Level) -> Entry:
    if entry.kind == "code":
        return entry
    return replace(entry, level=level, specifier=specifier_for(entry, level))


def specifier_for(entry: Entry, level: Level) -> str:
    """Return the specifier of the versions that *level* allows for *entry*."""
    version = parse_version(entry.version)
    if version is None:
        return arbitrary(entry.version) or ""
    if entry.kind == "python":
        return f"=={version.major}.{version.minor}.*"
    return exact(version) if level in (Level.CRITICAL, Level.EXACT) else compatible(version)
