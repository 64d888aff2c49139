"""Choosing a level for each installed package, and the reason that the user reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagesync.errors import UsageError
from imagesync.plan.levels import (
    CriticalPackage,
    Levels,
    Profile,
    Rule,
    canonical_pattern,
    load_levels,
    make_levels,
)
from imagesync.plan.matching import matches, nearest
from imagesync.plan.plan import Level
from imagesync.plan.requirements import closure, requirers
from imagesync.scan.environment import Environment, Package
from imagesync.settings import Settings

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

LEFT_OUT = frozenset({Level.PLATFORM_ONLY, Level.IGNORE, Level.IGNORE_UNLESS_REQUESTED})

_VENDORED_REASONS = {
    "directory": "It is installed from a folder on this machine, so its wheel is made here.",
    "vcs": "It is installed from a repository, so its wheel is made from the very commit that is installed.",
    "archive": "It is installed from a file, so its wheel is made from that file.",
}


@dataclass(frozen=True)
class Choice:
    """How closely the image must match one package.

    Parameters
    ----------
    reason
        A sentence; empty where no rule names the package, and its version alone decides.
    kept
        Whether the image holds it.
    by_user
        Whether the user's settings decided, so that nothing else may overrule it.
    """

    level: Level
    reason: str
    kept: bool
    by_user: bool = False


@dataclass(frozen=True)
class Chooser:
    """What decides about levels: the user's settings first, then the profile, then the shipped levels.

    Parameters
    ----------
    only
        The names that may stay; ``None`` where the user doesn't narrow them.
    """

    ignore: tuple[str, ...]
    only: frozenset[NormalizedName] | None
    levels: Levels
    critical: Mapping[NormalizedName, CriticalPackage]
    shipped: Levels

    def choose(self, package: Package) -> Choice:
        """Return the level of *package*, other packages' wishes aside."""
        if matches(self.ignore, package.name):
            return Choice(Level.IGNORE, "Your settings ignore it.", kept=False, by_user=True)
        if self.only is not None and package.name not in self.only:
            reason = "Your setting 'only' doesn't name it, and nothing that is kept requires it."
            return Choice(Level.IGNORE, reason, kept=False, by_user=True)
        if rule := self.levels.find(package.name):
            return replace(_follow(rule, package), by_user=True)
        if critical := self.critical.get(package.name):
            return Choice(Level.CRITICAL, critical.reason, kept=True)
        rule = self.shipped.find(package.name)
        if rule and rule.level is Level.PLATFORM_ONLY and _is_linux_build(package):
            rule = None
        choice = _follow(rule, package) if rule else Choice(Level.COMPATIBLE, "", kept=True)
        if choice.kept and package.source.kind != "index":
            return Choice(Level.EXACT, _VENDORED_REASONS[package.source.kind], kept=True)
        return choice


def _follow(rule: Rule, package: Package) -> Choice:
    if rule.level is not Level.IGNORE_UNLESS_REQUESTED:
        return Choice(rule.level, rule.reason, kept=rule.level not in LEFT_OUT)
    if package.requested:
        reason = "You installed it by name, or it came with the environment."
        return Choice(Level.COMPATIBLE, reason, kept=True)
    return Choice(rule.level, f"{rule.reason} You didn't install it by name.", kept=False)


def _is_linux_build(package: Package) -> bool:
    return any("linux" in tag.rpartition("-")[2] for tag in package.tags)


def make_chooser(
    environment: Environment, *, settings: Settings, profile: Profile, markers: Mapping[str, str]
) -> Chooser:
    """Return what decides about the levels of *environment*'s packages.

    Raises
    ------
    UsageError
        A level in the settings doesn't exist.
    """
    critical = {package.name: package for package in profile.critical}
    only = None
    if settings.only:
        installed = {package.name: package for package in environment.packages}
        patterns = [canonical_pattern(entry) for entry in settings.only]
        roots = {name for name in installed if name in critical or matches(patterns, name)}
        only = closure(installed, roots, markers)
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
) -> tuple[dict[NormalizedName, Choice], dict[NormalizedName, list[NormalizedName]]]:
    """Return the choice for each package, and which packages that stay require one that is left out.

    A package that only the shipped levels would leave out stays where a package that
    stays requires it; a platform-only one does so where it is installed on Linux.
    """
    choices = {package.name: chooser.choose(package) for package in environment.packages}
    on_linux = environment.python.platform.startswith("linux")
    while True:
        left_out = {name for name, choice in choices.items() if not choice.kept}
        kept = [package for package in environment.packages if package.name not in left_out]
        required = requirers(kept, left_out, markers)
        wanted = {
            name: by
            for name, by in required.items()
            if not choices[name].by_user and (choices[name].level is not Level.PLATFORM_ONLY or on_linux)
        }
        if not wanted:
            return choices, required
        for name, by in wanted.items():
            choices[name] = Choice(Level.COMPATIBLE, f"{_listed(by)} {_verb(by)} it.", kept=True)


def _listed(names: list[NormalizedName]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verb(names: list[NormalizedName]) -> str:
    return "requires" if len(names) == 1 else "require"
