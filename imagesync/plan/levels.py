"""Levels: rules by name and by pattern, shipped (``shipped_levels``) or from the user's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from imagesync.core.names import Level, canonical_pattern
from imagesync.plan.shipped_levels import LEVELS


class Rule(NamedTuple):
    """A level for a name or a pattern, and the reason that the user is shown."""

    level: Level
    reason: str


class Levels(NamedTuple):
    """Rules by canonical name, and by pattern; a name takes precedence over a pattern.

    Parameters
    ----------
    names, patterns
        The rules. Patterns contain ``*``.
    prefixes
        The text before the ``*`` of each pattern.
    """

    names: Mapping[str, Rule]
    patterns: Mapping[str, Rule]
    prefixes: tuple[str, ...]

    def find(self, *names: str) -> Rule | None:
        """Return the rule for a package with these *names*; the longest matching pattern decides."""
        for name in names:
            if rule := self.names.get(name):
                return rule
        # Few names begin like a pattern, and matching patterns is slow.
        if not any(name.startswith(self.prefixes) for name in names):
            return None
        matching = [p for p in self.patterns if any(fnmatchcase(name, p) for name in names)]
        return self.patterns[max(matching, key=lambda pattern: (len(pattern), pattern))] if matching else None


def make_levels(rules: Iterable[tuple[str, Rule]]) -> Levels:
    """Return *rules*, pairs of a name or pattern and its rule, as :class:`Levels`."""
    named = {canonical_pattern(name): rule for name, rule in rules}
    patterns = {name: rule for name, rule in named.items() if "*" in name}
    return Levels(
        names={name: rule for name, rule in named.items() if name not in patterns},
        patterns=patterns,
        prefixes=tuple({pattern.partition("*")[0] for pattern in patterns}),
    )


def load_levels() -> Levels:
    """Return the shipped levels."""
    return make_levels(
        (name, Rule(Level(level), reason))
        for level, reasons in LEVELS.items()
        for name, reason in reasons.items()
    )
