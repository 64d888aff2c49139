"""Findings about the user's settings: names that match no package, and left-out packages that others need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

from imagesync.core.names import Level, canonical_name, canonical_pattern, nearest
from imagesync.plan.choose_levels import Choice, Chooser
from imagesync.plan.dependencies import Key, candidates
from imagesync.scan.environment import Environment, Finding, Severity
from imagesync.settings.model import Settings


def unmatched(
    key: str, entries: Iterable[str], names: Collection[str], *, kind: str = "installed package"
) -> list[Finding]:
    """Return a warning for each of the *entries* of the setting *key* that matches none of the *names*.

    *kind* says what *names* are, for the message.
    """
    findings = []
    for entry in entries:
        pattern = canonical_pattern(entry)
        if pattern in names or any(fnmatchcase(name, pattern) for name in names):
            continue
        close = nearest(pattern, sorted(names))
        findings.append(
            Finding(
                severity=Severity.WARNING,
                code="unmatched-setting",
                message=f"'{entry}' in the setting '{key}' matches no {kind}.",
                package=pattern,
                hint=f"Did you mean '{close}'?" if close else "Correct the name, or remove the entry.",
            )
        )
    return findings


def unmatched_settings(environment: Environment, settings: Settings) -> list[Finding]:
    """Return a warning for each entry of ``ignore``, ``only`` and ``levels`` that matches no package."""
    installed: set[str] = {package.name for package in environment.packages}
    installed |= {canonical_name(record.name) for record in environment.conda}
    return [
        *unmatched("ignore", settings.ignore, installed),
        *unmatched("only", settings.only, installed),
        *unmatched("levels", settings.levels, installed),
    ]


def left_out_findings(
    environment: Environment,
    choices: Mapping[Key, Choice],
    required: Mapping[Key, list[str]],
    chooser: Chooser,
) -> list[Finding]:
    """Return warnings for left-out packages that others require, and for overruled critical packages."""
    findings = [
        Finding(
            severity=Severity.WARNING,
            code="required-but-left-out",
            message=f"{name} is left out of the image, and {', '.join(sorted(by))} won't find it there.",
            package=name,
            hint=f"Leave out {', '.join(sorted(by))} too, or keep {name}.",
        )
        for (_, name), by in sorted(required.items(), key=lambda item: item[0][1])
    ]
    for candidate in candidates(environment):
        names = [name for name in candidate.names if name in chooser.critical]
        choice = choices[candidate.key]
        if names and choice.level is not Level.CRITICAL:
            effect = "leave it out." if not choice.kept else f"make it '{choice.level.value}'."
            findings.append(
                Finding(
                    severity=Severity.WARNING,
                    code="critical-overruled",
                    message=f"{names[0]} is critical for a cluster, and your settings {effect}",
                    package=names[0],
                    hint=f"{chooser.critical[names[0]].reason} "
                    "Keep it, unless no cluster is started from the image.",
                )
            )
    return findings
