"""Explaining why conda packages aren't available or conflict, with remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imagesync.core.names import Level
from imagesync.core.platforms import Platform
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.preferences import Preference
from imagesync.lock.conda.solver import CondaRequest, CondaSolver
from imagesync.lock.explain.conflicts import Explanation, Unanswered, contradiction, explain, way_out
from imagesync.plan.install_commands import levels_that_help
from imagesync.plan.plan import PlannedConda

# Time limits in seconds: for the search for the smallest remedies, and for one question.
_SECONDS = 10.0
_QUESTION = 5.0


def refusal(
    refused: Sequence[tuple[PlannedConda, str]], channels: Sequence[str], platform: Platform
) -> UnsolvableError:
    """Return the error for packages without a version in the channels that their levels allow.

    Parameters
    ----------
    refused
        The packages, each with the reason.
    channels
        URLs of the channels.
    platform
        That of the image.
    """
    lines = [f"- {package.name} ({_allowance(package)}): {reason}" for package, reason in refused]
    subject = "1 conda package" if len(refused) == 1 else f"{len(refused)} conda packages"
    ways = ["Name the channel that has it in 'channels', or install a version here that the channel has."]
    if levels := levels_that_help(package for package, _ in refused):
        ways.append(levels)
    return UnsolvableError(
        f"No version that the plan allows of {subject} is there for {platform.subdir} "
        f"({', '.join(channels)}):\n" + "\n".join(lines),
        hint="\n".join(ways),
    )


def _allowance(package: PlannedConda) -> str:
    if package.level is Level.NEAREST:
        return f"{package.version} or the nearest"
    return f"{package.version} here, {package.level.value}, {package.specifier}"


def with_explanation(
    error: UnsolvableError,
    preferences: Sequence[Preference],
    additions: Sequence[str],
    request: CondaRequest,
    solver: CondaSolver,
) -> UnsolvableError:
    """Return *error* with the user's packages that conflict, and the smallest remedies."""
    constraints: list[Preference | str] = [*preferences, *additions]

    def solvable(kept: Sequence[Preference | str]) -> bool:
        kept_ids = set(map(id, kept))
        specs = tuple(_spec(each, holds=id(each) in kept_ids) for each in constraints)
        try:
            solver.solve(replace(request, specs=specs, timeout=_QUESTION))
        except UnsolvableError:
            return False
        except LockError as failure:
            raise Unanswered from failure
        return True

    found: Explanation[Preference | str] = explain(constraints, solvable, seconds=_SECONDS)
    return UnsolvableError(
        f"No set of conda packages satisfies the plan: {error.message}"
        + contradiction([_described(each) for each in found.conflict], solver.platform.subdir),
        hint=_hint(found),
    )


def _spec(constraint: Preference | str, *, holds: bool) -> str:
    if isinstance(constraint, str):
        return constraint if holds else _name(constraint)
    return constraint.limited if holds else constraint.relaxed


def _described(constraint: Preference | str) -> str:
    if isinstance(constraint, str):
        return f"{constraint} (add.conda)"
    planned = constraint.planned
    allowed = "any version" if planned.level is Level.NEAREST else planned.specifier or "any version"
    requested = ", which you asked for" if planned.requested else ""
    return f"{planned.name} {planned.version} ({planned.level.value}: {allowed}){requested}"


def _hint(found: Explanation[Preference | str]) -> str:
    if not found.remedies:
        return 'Let go of one of them: levels = { NAME = "nearest" } takes another version, "ignore" none.'
    text = way_out([[_name(each) for each in remedy] for remedy in found.remedies])
    preferences = (each.planned for each in found.remedies[0] if isinstance(each, Preference))
    levels = levels_that_help(preferences, loosen_critical=True)
    return "\n".join(filter(None, (text, levels)))


def _name(constraint: Preference | str) -> str:
    return constraint.partition(" ")[0] if isinstance(constraint, str) else constraint.name
