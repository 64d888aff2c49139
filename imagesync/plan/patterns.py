"""Names and patterns that users write, against the names that are there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from imagesync.core.names import canonical_name
from imagesync.scan.environment import Finding, Severity


def canonical_pattern(text: str) -> str:
    """Return a name or pattern as a user writes it in the form of canonical names.

    >>> canonical_pattern("PyObjC_framework.*")
    'pyobjc-framework-*'
    """
    return canonical_name(text.strip())


def matches(patterns: Iterable[str], name: str) -> bool:
    """Return whether one of the *patterns*, in canonical form, stands for *name*."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def nearest(text: str, known: Iterable[str]) -> str | None:
    """Return the one of the *known* names that *text* was probably meant to be.

    >>> nearest("xaray", ["xarray", "zarr"])
    'xarray'
    """
    # Needed only where something is wrong.
    from difflib import get_close_matches

    close = get_close_matches(text, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def unmatched(
    key: str, entries: Iterable[str], names: Collection[str], *, kind: str = "installed package"
) -> list[Finding]:
    """Return a warning for each of the *entries* of setting *key* that stands for none of the *names*.

    Parameters
    ----------
    kind
        What the names are of, in words.
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
