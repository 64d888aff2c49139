"""Minimal conflicts and smallest remedies of a request that can't be solved.

The search only asks a solver again with some constraints relaxed, and so works for every solver, of conda
packages and of Python packages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Constraint = TypeVar("Constraint")
_REMEDIES = 4


@dataclass(frozen=True)
class Explanation(Generic[Constraint]):
    """A minimal conflict and its remedies.

    Parameters
    ----------
    conflict
        A minimal set of constraints that can't hold together; empty if it wasn't found in time.
    remedies
        The smallest sets of constraints to relax for a solution, as far as they were found in time.
    """

    conflict: tuple[Constraint, ...] = ()
    remedies: tuple[tuple[Constraint, ...], ...] = ()


class Unanswered(Exception):
    """The solver gave no answer, for example in time: the search ends with the results so far."""


def explain(
    constraints: Sequence[Constraint],
    solvable: Callable[[Sequence[Constraint]], bool],
    *,
    seconds: float,
    suspects: Collection[Constraint] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Explanation[Constraint]:
    """Return a minimal conflict among *constraints*, which can't all hold, and the smallest remedies.

    Parameters
    ----------
    constraints
        The constraints of the request.
    solvable
        Returns True if there is a solution with the given constraints, and all others relaxed. It may raise
        :class:`Unanswered`.
    seconds
        The time limit.
    suspects
        Those of *constraints* that are likely to conflict: if they conflict alone, the others are skipped.
    clock
        Returns the time in seconds.

    >>> def solvable(constraints):
    ...     return not {"a", "d"} <= set(constraints) and not {"b", "d"} <= set(constraints)
    >>> explain("abcd", solvable, seconds=5)
    Explanation(conflict=('a', 'd'), remedies=(('d',),))
    """
    deadline = clock() + seconds

    def in_time(kept: Sequence[Constraint]) -> bool:
        if clock() > deadline:
            raise Unanswered
        return solvable(kept)

    likely = set(map(id, suspects))

    def find(remaining: list[Constraint]) -> list[Constraint]:
        suspected = [constraint for constraint in remaining if id(constraint) in likely]
        is_conflict = bool(suspected) and not in_time(suspected)
        return _minimal_conflict(suspected if is_conflict else remaining, in_time)

    conflict: tuple[Constraint, ...] = ()
    remedies: list[tuple[Constraint, ...]] = []
    try:
        if not in_time(()):
            return Explanation()
        conflict = tuple(find(list(constraints)))
        for remedy in _smallest_remedies(list(constraints), conflict, in_time, find):
            remedies.append(remedy)
            if len(remedies) == _REMEDIES:
                break
    except Unanswered:
        pass
    return Explanation(conflict, tuple(remedies))


def contradiction(constraints: Sequence[str], platform: str) -> str:
    """Return conflicting *constraints* as a list to append to a message; empty for none.

    >>> print(contradiction(["a 1.0", "b 2.0"], "linux-64"))
    <BLANKLINE>
    These of your packages can't go together on linux-64:
    - a 1.0
    - b 2.0
    """
    if not constraints:
        return ""
    subject = (
        "These of your packages can't go together"
        if len(constraints) > 1
        else "This can't be had, whatever else gives way,"
    )
    return f"\n{subject} on {platform}:\n" + "\n".join(f"- {constraint}" for constraint in constraints)


def way_out(remedies: Sequence[Sequence[str]]) -> str:
    """Return a sentence that offers *remedies*, each a set of names whose versions may change.

    >>> way_out([["a"], ["b", "c"]])
    'It can be solved if another version of a or b and c will do.'
    """
    sets = " or ".join(" and ".join(names) for names in remedies)
    return f"It can be solved if another version of {sets} will do."


def _minimal_conflict(
    constraints: list[Constraint], solvable: Callable[[Sequence[Constraint]], bool]
) -> list[Constraint]:
    """Return a minimal set of constraints that can't hold together.

    By deletion in halves (QuickXplain, Junker 2004), which takes few questions for a few among many.
    """

    def reduce(background: list[Constraint], grown: bool, candidates: list[Constraint]) -> list[Constraint]:
        if grown and not solvable(background):
            return []
        if len(candidates) == 1:
            return candidates
        middle = len(candidates) // 2
        first, second = candidates[:middle], candidates[middle:]
        of_second = reduce(background + first, bool(first), second)
        of_first = reduce(background + of_second, bool(of_second), first)
        return of_first + of_second

    return reduce([], False, constraints) if constraints else []


def _smallest_remedies(
    constraints: list[Constraint],
    conflict: Sequence[Constraint],
    solvable: Callable[[Sequence[Constraint]], bool],
    find: Callable[[list[Constraint]], list[Constraint]],
) -> Iterator[tuple[Constraint, ...]]:
    """Yield the smallest sets of constraints to relax for a solution.

    Each set has to hit every conflict, so a breadth-first search of a tree of conflicts finds them (hitting
    sets, Reiter 1987). *find* returns a conflict among the remaining constraints.
    """
    waiting: deque[tuple[tuple[Constraint, ...], tuple[Constraint, ...]]] = deque([((), tuple(conflict))])
    seen: set[frozenset[int]] = set()
    size = 0
    while waiting:
        chosen, standing = waiting.popleft()
        if size and len(chosen) >= size:
            return
        for constraint in standing:
            relaxed = (*chosen, constraint)
            key = frozenset(map(id, relaxed))
            if key in seen:
                continue
            seen.add(key)
            kept = [other for other in constraints if id(other) not in key]
            if solvable(kept):
                size = len(relaxed)
                yield relaxed
            elif not size:
                waiting.append((relaxed, tuple(find(kept))))
