"""What a plan says beside its packages, and a build that finds its image needn't ask again."""

from __future__ import annotations

from imagesync.plan.checks.file_conflicts import overlaps
from imagesync.plan.checks.module_conflicts import clashes
from imagesync.plan.checks.sources import missing_sources
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Environment, Finding


def check(plan: Plan, environment: Environment) -> tuple[Finding, ...]:
    """Return what is odd about the files behind *plan*: sources that are gone, clashes, overlaps."""
    return (*missing_sources(plan, environment), *clashes(plan, environment), *overlaps(plan, environment))
