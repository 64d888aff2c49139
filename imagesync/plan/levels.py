"""Levels and profiles, which are data: ``shipped_levels`` and ``shipped_profiles`` beside this module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from imagesync.core.names import Level, canonical_pattern

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


class Rule(NamedTuple):
    """A level for a name or for all names of a pattern, and the reason that the user reads."""

    level: Level
    reason: str


class Levels(NamedTuple):
    """Rules by canonical name, and by pattern with ``*``; a name wins over a pattern.

    Parameters
    ----------
    beginnings
        What stands before the ``*`` of each pattern.
    """

    names: Mapping[str, Rule]
    patterns: Mapping[str, Rule]
    beginnings: tuple[str, ...]

    def find(self, *names: str) -> Rule | None:
        """Return the rule for what has these *names*; of several patterns that match, the longest decides."""
        for name in names:
            if rule := self.names.get(name):
                return rule
        # Few names begin like a pattern, and comparing patterns is slow.
        if not any(name.startswith(self.beginnings) for name in names):
            return None
        matching = [p for p in self.patterns if any(fnmatchcase(name, p) for name in names)]
        return self.patterns[max(matching, key=lambda pattern: (len(pattern), pattern))] if matching else None


class CriticalPackage(NamedTuple):
    """A package that a cluster can't do without.

    Parameters
    ----------
    import_name
        What to import in the finished image.
    same_version_as
        The package whose version to install when this one is missing.
    conda
        Its conda name, where that is another one.
    """

    name: NormalizedName
    import_name: str
    reason: str
    same_version_as: NormalizedName | None = None
    conda: str = ""


class Profile(NamedTuple):
    """What a kind of cluster needs.

    Parameters
    ----------
    chosen_by
        ``auto`` takes the first profile of which one of these is installed.
    """

    name: str
    chosen_by: tuple[NormalizedName, ...]
    critical: tuple[CriticalPackage, ...]


def is_pattern(text: str) -> bool:
    """Return whether *text* stands for several names."""
    return "*" in text


def make_levels(rules: Iterable[tuple[str, Rule]]) -> Levels:
    """Return *rules*, given as pairs of a name or pattern and its rule, ready to be asked."""
    named = {canonical_pattern(name): rule for name, rule in rules}
    patterns = {name: rule for name, rule in named.items() if is_pattern(name)}
    return Levels(
        names={name: rule for name, rule in named.items() if name not in patterns},
        patterns=patterns,
        beginnings=tuple({pattern.partition("*")[0] for pattern in patterns}),
    )


def load_levels() -> Levels:
    """Return the shipped levels."""
    from imagesync.plan.shipped_levels import LEVELS

    return make_levels(
        (name, Rule(Level(level), reason))
        for level, reasons in LEVELS.items()
        for name, reason in reasons.items()
    )


def load_profiles() -> dict[str, Profile]:
    """Return the shipped profiles by name, in the order in which ``auto`` tries them."""
    from imagesync.plan.shipped_profiles import PROFILES

    return {profile.name: profile for profile in PROFILES}
