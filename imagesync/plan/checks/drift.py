"""Drift that a plan allows: where the image could differ from the local environment."""

from __future__ import annotations

from imagesync.core.names import Level
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Severity


def possible_drift(plan: Plan, *, every: bool) -> tuple[str, ...]:
    """Return the names of packages that could differ in the image, sorted.

    Parameters
    ----------
    plan
        The plan to look at.
    every
        Count every package without an exact specifier, every package that is left out, and warnings.
        Otherwise only critical and exact packages, requested packages that are left out, and errors
        count. Ignored packages never count.
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
    # Ignored packages are left out on purpose: pip is in every virtual environment.
    left_out = (package for package in plan.left_out if package.level is not Level.IGNORE)
    drifting.update(package.name for package in left_out if every or package.requested)
    serious = (Severity.ERROR, Severity.WARNING) if every else (Severity.ERROR,)
    findings = (finding for finding in plan.findings if finding.severity in serious)
    drifting.update(finding.package or finding.code for finding in findings)
    return tuple(sorted(drifting))


def _is_exact(specifier: str) -> bool:
    # A wildcard such as ==3.11.* is a range.
    return specifier.startswith("==") and "*" not in specifier and "," not in specifier
