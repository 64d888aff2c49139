"""Choosing a level for each installed package, with the reason that the user is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from imagesync.core.names import Level, canonical_pattern, matches, nearest
from imagesync.errors import UsageError
from imagesync.plan.dependencies import Candidate, Key, candidates, closure_of, requirers_of_left_out
from imagesync.plan.levels import CriticalPackage, Levels, Profile, Rule, load_levels, make_levels
from imagesync.scan.environment import Environment
from imagesync.settings.model import Settings

PYTHON: Key = ("conda", "python")
LEFT_OUT = frozenset({Level.PLATFORM_ONLY, Level.IGNORE, Level.IGNORE_UNLESS_REQUESTED})

PYTHON_REASON = "Bytecode and pickled functions belong to one version of Python; conda has exactly yours."
_VENDORED_REASONS = {
    "directory": "It is installed from a folder on this machine, so its wheel is made here.",
    "vcs": "It is installed from a repository, so its wheel is made from the very commit that is installed.",
    "archive": "It is installed from a file, so its wheel is made from that file.",
}


class Choice(NamedTuple):
    """How closely the image must match one package.

    Parameters
    ----------
    level
        The level.
    reason
        A sentence; empty if no rule names the package.
    kept
        Whether the image gets the package.
    by_user
        Whether the user's settings decided, which nothing else overrules.
    """

    level: Level
    reason: str
    kept: bool
    by_user: bool = False


class Chooser(NamedTuple):
    """The rules for levels: the user's settings first, then the profile, then the shipped levels.

    Parameters
    ----------
    ignore
        Patterns of packages that the user ignores.
    only
        The packages that the setting ``only`` keeps; ``None`` without that setting.
    levels
        The levels of the user's settings.
    critical
        The critical packages of the profile, by canonical name.
    shipped
        The shipped levels.
    """

    ignore: tuple[str, ...]
    only: frozenset[Key] | None
    levels: Levels
    critical: Mapping[str, CriticalPackage]
    shipped: Levels

    def choose(self, candidate: Candidate) -> Choice:
        """Return the level of *candidate*, regardless of the packages that require it."""
        if candidate.key == PYTHON:
            return Choice(Level.CRITICAL, PYTHON_REASON, kept=True, by_user=True)
        if any(matches(self.ignore, name) for name in candidate.names):
            return Choice(Level.IGNORE, "Your settings ignore it.", kept=False, by_user=True)
        if self.only is not None and candidate.key not in self.only:
            reason = "Your setting 'only' doesn't name it, and nothing that is kept requires it."
            return Choice(Level.IGNORE, reason, kept=False, by_user=True)
        if rule := self.levels.find(*candidate.names):
            return _follow(rule, candidate)._replace(by_user=True)
        if critical := next((self.critical[name] for name in candidate.names if name in self.critical), None):
            return Choice(Level.CRITICAL, critical.reason, kept=True)
        return self._shipped_choice(candidate)

    def _shipped_choice(self, candidate: Candidate) -> Choice:
        """Return the level by the shipped levels and the source of *candidate*."""
        rule = self.shipped.find(*candidate.names)
        if rule and rule.level is Level.PLATFORM_ONLY and candidate.for_linux:
            rule = None
        choice = _follow(rule, candidate) if rule else Choice(Level.COMPATIBLE, "", kept=True)
        if choice.kept and candidate.source != "index":
            return Choice(Level.EXACT, _VENDORED_REASONS[candidate.source], kept=True)
        return choice


def _follow(rule: Rule, candidate: Candidate) -> Choice:
    if rule.level is not Level.IGNORE_UNLESS_REQUESTED:
        return Choice(rule.level, rule.reason, kept=rule.level not in LEFT_OUT)
    if candidate.requested:
        reason = "You installed it by name, or it came with the environment."
        return Choice(Level.COMPATIBLE, reason, kept=True)
    return Choice(rule.level, f"{rule.reason} You didn't install it by name.", kept=False)


def make_chooser(
    environment: Environment, *, settings: Settings, profile: Profile, markers: Mapping[str, str]
) -> Chooser:
    """Return the rules for the levels of the packages of *environment*.

    Raises
    ------
    UsageError
        A level in the settings doesn't exist.
    """
    critical: dict[str, CriticalPackage] = {package.name: package for package in profile.critical}
    only = None
    if settings.only:
        patterns = [canonical_pattern(entry) for entry in settings.only]
        roots = {
            candidate.key
            for candidate in candidates(environment)
            if candidate.key == PYTHON or any(n in critical or matches(patterns, n) for n in candidate.names)
        }
        only = closure_of(environment, roots, markers)
    return Chooser(
        ignore=tuple(canonical_pattern(entry) for entry in settings.ignore),
        only=only,
        levels=make_levels(
            (name, Rule(_level_named(level, name), "Your settings say so."))
            for name, level in settings.levels.items()
        ),
        critical=critical,
        shipped=load_levels(),
    )


def _level_named(text: str, name: str) -> Level:
    try:
        return Level(text)
    except ValueError:
        known = [level.value for level in Level]
        close = nearest(text, known)
        raise UsageError(
            f"The setting 'levels' gives {name} the level '{text}', which doesn't exist.",
            hint=f"Did you mean '{close}'?" if close else f"The levels are {', '.join(known)}.",
        ) from None


def choose_levels(
    environment: Environment, *, chooser: Chooser, markers: Mapping[str, str]
) -> tuple[dict[Key, Choice], dict[Key, list[str]]]:
    """Return the choice for each package, and the kept packages that require one that is left out.

    A package that only the shipped levels would leave out is kept if a kept package requires it. For a
    platform-only package this holds only on Linux: dependencies of conda packages on another platform say
    nothing about Linux.
    """
    choices = {candidate.key: chooser.choose(candidate) for candidate in candidates(environment)}
    on_linux = environment.python.platform.startswith("linux")
    while True:
        left_out = {key for key, choice in choices.items() if not choice.kept}
        foreign = {key for key in left_out if choices[key].level is Level.PLATFORM_ONLY and not on_linux}
        required = requirers_of_left_out(environment, left_out, markers, foreign=foreign)
        overruled = {
            key: by for key, by in required.items() if not choices[key].by_user and key not in foreign
        }
        if not overruled:
            return choices, required
        for key, by in overruled.items():
            choices[key] = Choice(Level.COMPATIBLE, f"{_listed(by)} {_verb(by)} it.", kept=True)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verb(names: list[str]) -> str:
    return "requires" if len(names) == 1 else "require"
