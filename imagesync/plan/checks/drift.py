"""Drift that a plan allows: where the image could differ from the local environment."""

from __future__ import annotations

from imagesync.core.names import Level
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Severity


def possible_drift(plan: Plan, *, every: bool) -> tuple[str, ...]:
    """Return the names of what could differ in the image, sorted; for scripts that must know beforehand.

    Parameters
    ----------
    every
        Whether each package counts: one whose specifier isn't exact, one that is left out, and each
        warning. Otherwise only packages of level critical or exact count, packages that are left out
        though the user asked for them, and errors. What is ignored never counts.
    """
    drifting: set[str] = {
        package.name
        for package in plan.packages
        if package.name != "python"
        and package.installed is not None
        and (every or package.level in (Level.CRITICAL, Level.EXACT))
        and not _is_exact(package.specifier)
    }
    drifting.update(
        package.name
        for package in plan.conda
        if package.record is not None
        and (every or package.level in (Level.CRITICAL, Level.EXACT))
        and not _is_exact(package.specifier)
    )
    # What is ignored was meant to be left out: pip stands in every virtual environment.
    left_out = (package for package in plan.left_out if package.level is not Level.IGNORE)
    drifting.update(package.name for package in left_out if every or package.requested)
    serious = (Severity.ERROR, Severity.WARNING) if every else (Severity.ERROR,)
    findings = (finding for finding in plan.findings if finding.severity in serious)
    drifting.update(finding.package or finding.code for finding in findings)
    return tuple(sorted(drifting))


def _is_exact(specifier: str) -> bool:
    # A wildcard such as ==3.11.* is a range.
    return specifier.startswith("==") and "*" not in specifier and "," not in specifier
