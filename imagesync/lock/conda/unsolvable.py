"""Saying why conda packages can't be had, or not together, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imagesync.core.names import Level
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.preferences import Wanted, limit
from imagesync.lock.conda.solver import CondaRequest, CondaSolver
from imagesync.lock.explain.conflicts import Explanation, Unanswered, contradiction, explain, way_out
from imagesync.plan.plan import PlannedConda

# How long to look for the smallest remedy, in seconds, and how long one question may take.
_SECONDS = 10.0
_QUESTION = 5.0
_PLATFORM = "linux-64"


def refusal(refused: Sequence[tuple[PlannedConda, str]], channels: Sequence[str]) -> UnsolvableError:
    """Return the error for packages of which the channels have nothing that their levels allow.

    Parameters
    ----------
    refused
        Each with the reason.
    """
    lines = [f"- {package.name} ({_allowance(package)}): {why}" for package, why in refused]
    subject = "1 conda package" if len(refused) == 1 else f"{len(refused)} conda packages"
    names = [package.name for package, _ in refused if package.level is not Level.CRITICAL]
    ways = ["Name the channel that has it in 'channels', or install a version here that the channel has."]
    if names:
        settings = ", ".join(f'{name} = "exact"' for name in names[:3])
        ways.append(
            f"To take the nearest version, set levels = {{ {settings} }} in [tool.imagesync]; "
            'or "ignore" to go without it.'
        )
    return UnsolvableError(
        f"No version that the plan allows of {subject} is there for linux-64 ({', '.join(channels)}):\n"
        + "\n".join(lines),
        hint="\n".join(ways),
    )


def _allowance(package: PlannedConda) -> str:
    allowed = "any version" if package.level is Level.EXACT else package.specifier
    return f"{package.version} here, {package.level.value}, {allowed}"


def explained(
    error: UnsolvableError,
    wanted: Sequence[Wanted],
    added: Sequence[str],
    request: CondaRequest,
    solver: CondaSolver,
) -> UnsolvableError:
    """Return *error* with the user's packages that take part, and the smallest remedies."""
    entries: list[Wanted | str] = [*wanted, *added]

    def solvable(kept: Sequence[Wanted | str]) -> bool:
        holding = set(map(id, kept))
        specs = tuple(_spec(entry, id(entry) in holding) for entry in entries)
        try:
            solver.solve(replace(request, specs=specs, timeout=_QUESTION))
        except UnsolvableError:
            return False
        except LockError as failure:
            raise Unanswered from failure
        return True

    found: Explanation[Wanted | str] = explain(entries, solvable, seconds=_SECONDS)
    return UnsolvableError(
        f"No set of conda packages satisfies the plan: {error.message}"
        + contradiction([_described(entry) for entry in found.conflict], _PLATFORM),
        hint=_hint(found),
    )


def _spec(entry: Wanted | str, holds: bool) -> str:
    if isinstance(entry, str):
        return entry if holds else entry.partition(" ")[0]
    return entry.limited if holds else entry.relaxed


def _described(entry: Wanted | str) -> str:
    if isinstance(entry, str):
        return f"{entry} (add.conda)"
    planned = entry.planned
    wanted = limit(planned) or "any version"
    asked = ", which you asked for" if planned.requested else ""
    return f"{planned.name} {planned.version} ({planned.level.value}: {wanted}){asked}"


def _hint(found: Explanation[Wanted | str]) -> str:
    if not found.remedies:
        return 'Let go of one of them: levels = { NAME = "exact" } takes another version, "ignore" none.'
    text = way_out([[_name(entry) for entry in remedy] for remedy in found.remedies])
    named = [entry.name for entry in found.remedies[0] if isinstance(entry, Wanted)]
    setting = ", ".join(f'{name} = "exact"' for name in named)
    return f"{text}\nSay so in [tool.imagesync]: levels = {{ {setting} }}" if setting else text


def _name(entry: Wanted | str) -> str:
    return entry.partition(" ")[0] if isinstance(entry, str) else entry.name
