"""Choosing a level for each installed package, with the reason that the user is shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from imagesync.core.names import Level, canonical_pattern, matches, nearest
from imagesync.errors import UsageError
from imagesync.plan.dependencies import Candidate, Key, candidates, closure_of, requirers_of_left_out
from imagesync.plan.levels import CriticalPackage, Levels, Profile, Rule, load_levels, make_levels
from imagesync.plan.tools import tool_dependencies
from imagesync.plan.undeclared_imports import ImportSearch, no_imports
from imagesync.scan.environment import Environment
from imagesync.settings.model import Settings

PYTHON: Key = ("conda", "python")
LEFT_OUT = frozenset({Level.PLATFORM_ONLY, Level.IGNORE, Level.IGNORE_UNLESS_REQUESTED})

PYTHON_REASON = "Bytecode and pickled functions belong to one version of Python; conda has exactly yours."
TOOL_REASON = "Only a tool requires it that has no part in the image, and you didn't ask for it."
_VENDORED_REASONS = {
    "directory": "It is installed from a folder on this machine, so its wheel is made here.",
    "vcs": "It is installed from a repository, so the image gets the very commit that is installed.",
    "archive": "It is installed from a file, so the image gets what that file holds.",
}
_REFUSED_REASON = "Its sources can't be fetched safely, so its wheel is made from its installed files."


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
            reason = _REFUSED_REASON if candidate.is_refused else _VENDORED_REASONS[candidate.source]
            return Choice(Level.EXACT, reason, kept=True)
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
    environment: Environment,
    *,
    chooser: Chooser,
    markers: Mapping[str, str],
    imports: ImportSearch = no_imports,
) -> tuple[dict[Key, Choice], dict[Key, list[str]]]:
    """Return the choice for each package, and the kept packages that need one that is left out.

    A package that only the shipped levels would leave out is kept if a kept package requires or imports it.
    For a platform-only package this holds only on Linux: dependencies of conda packages on another platform
    say nothing about Linux.
    """
    found = tuple(candidates(environment))
    original = {candidate.key: chooser.choose(candidate) for candidate in found}
    choices = original | _tool_choices(environment, found, original, markers)
    on_linux = environment.python.platform.startswith("linux")
    importers: dict[Key, list[tuple[Key | None, str]]] | None = None
    while True:
        left_out = {key for key, choice in choices.items() if not choice.kept}
        foreign = {key for key in left_out if choices[key].level is Level.PLATFORM_ONLY and not on_linux}
        required = requirers_of_left_out(environment, left_out, markers, foreign=foreign)
        overruled = {
            key: by for key, by in required.items() if not choices[key].by_user and key not in foreign
        }
        verb = "require"
        imported: dict[Key, list[str]] = {}
        if not overruled:
            # Sources are only searched for imports of what nobody requires.
            importers = _importers(environment, choices, imports) if importers is None else importers
            imported = _imported(importers, left_out - required.keys(), choices)
            overruled = {key: by for key, by in imported.items() if not choices[key].by_user}
            verb = "import"
        if not overruled:
            return choices, {**imported, **required}
        for key, by in overruled.items():
            reason = f"{_listed(by)} {verb}{'s' if len(by) == 1 else ''} it."
            kept = original[key].kept
            choices[key] = original[key] if kept else Choice(Level.COMPATIBLE, reason, kept=True)


def _imported(
    importers: Mapping[Key, list[tuple[Key | None, str]]],
    left_out: Collection[Key],
    choices: Mapping[Key, Choice],
) -> dict[Key, list[str]]:
    """Return those of *left_out* that kept packages or loose code import, with the names of these."""
    found = {
        key: [name for importer, name in importers[key] if importer is None or choices[importer].kept]
        for key in left_out
        if key in importers
    }
    return {key: by for key, by in found.items() if by}


def _tool_choices(
    environment: Environment,
    found: Sequence[Candidate],
    choices: Mapping[Key, Choice],
    markers: Mapping[str, str],
) -> dict[Key, Choice]:
    """Return the choices for packages that are there because of tools that are left out."""
    left_out = {key for key, choice in choices.items() if not choice.kept}
    dependencies = tool_dependencies(environment, found, left_out, markers)
    return {
        key: Choice(Level.IGNORE_UNLESS_REQUESTED, TOOL_REASON, kept=False)
        for key in dependencies
        if key in choices
        and choices[key].kept
        and not choices[key].by_user
        and choices[key].level is not Level.CRITICAL
    }


def _importers(
    environment: Environment, choices: Mapping[Key, Choice], imports: ImportSearch
) -> dict[Key, list[tuple[Key | None, str]]]:
    """Return who imports the left-out packages: a key and a name; the key is ``None`` for loose code."""
    keys: dict[str, Key] = {
        package.name: ("conda", package.conda) if package.conda else ("pip", package.name)
        for package in environment.packages
    }
    left_out = [
        package
        for package in environment.packages
        if (choice := choices.get(keys[package.name])) is not None
        and not choice.kept
        and choice.level is not Level.PLATFORM_ONLY
    ]
    found: dict[Key, list[tuple[Key | None, str]]] = {}
    for name, by in imports(left_out).items() if left_out else ():
        found.setdefault(keys[name], []).extend((keys.get(importer), importer) for importer in by)
    return found


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
