"""Names and patterns in settings that match no package: usually typing errors."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from imagesync.core.names import canonical_pattern, nearest
from imagesync.scan.environment import Finding, Severity


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
