"""Why something can't be solved: which of a user's entries contradict one another, and what to let go.

It asks the solver again and again, with some entries relaxed, and so works for every solver.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Entry = TypeVar("Entry")
_REMEDIES = 4


@dataclass(frozen=True)
class Explanation(Generic[Entry]):
    """What contradicts what.

    Parameters
    ----------
    conflict
        Entries that can't hold together, none of which is too many; empty where it was not found in time.
    remedies
        The smallest sets of entries whose relaxing makes it solvable, as far as they were found in time.
    """

    conflict: tuple[Entry, ...] = ()
    remedies: tuple[tuple[Entry, ...], ...] = ()


class _OutOfTime(Exception):
    pass


def explain(
    entries: Sequence[Entry],
    solvable: Callable[[Sequence[Entry]], bool],
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Explanation[Entry]:
    """Return a minimal conflict among *entries*, which can't all hold, and the smallest remedies.

    Parameters
    ----------
    solvable
        Whether everything can be solved when the given entries hold, and all others are relaxed.
    seconds
        How long to look at most.

    >>> def solvable(entries):
    ...     return not {"a", "d"} <= set(entries) and not {"b", "d"} <= set(entries)
    >>> explain("abcd", solvable, seconds=5)
    Explanation(conflict=('a', 'd'), remedies=(('d',),))
    """
    deadline = clock() + seconds

    def asked(some: Sequence[Entry]) -> bool:
        if clock() > deadline:
            raise _OutOfTime
        return solvable(some)

    conflict: tuple[Entry, ...] = ()
    remedies: list[tuple[Entry, ...]] = []
    try:
        if not asked(()):
            return Explanation()
        conflict = tuple(_minimal_conflict(list(entries), asked))
        for remedy in _smallest_remedies(list(entries), conflict, asked):
            remedies.append(remedy)
            if len(remedies) == _REMEDIES:
                break
    except _OutOfTime:
        pass
    return Explanation(conflict, tuple(remedies))


def _minimal_conflict(entries: list[Entry], solvable: Callable[[Sequence[Entry]], bool]) -> list[Entry]:
    """Return entries that can't hold together, and can if any one of them is relaxed.

    Deletion in halves (QuickXplain, Junker 2004): a conflict of a few among many takes few questions.
    """

    def reduce(background: list[Entry], grown: bool, candidates: list[Entry]) -> list[Entry]:
        if grown and not solvable(background):
            return []
        if len(candidates) == 1:
            return candidates
        middle = len(candidates) // 2
        first, second = candidates[:middle], candidates[middle:]
        of_second = reduce(background + first, bool(first), second)
        of_first = reduce(background + of_second, bool(of_second), first)
        return of_first + of_second

    return reduce([], False, entries) if entries else []


def _smallest_remedies(
    entries: list[Entry], conflict: Sequence[Entry], solvable: Callable[[Sequence[Entry]], bool]
) -> Iterator[tuple[Entry, ...]]:
    """Yield the smallest sets whose relaxing leaves no conflict.

    Each has to hit every conflict, so a tree of conflicts that is searched in breadth finds them (hitting
    sets, Reiter 1987).
    """
    waiting: deque[tuple[tuple[Entry, ...], tuple[Entry, ...]]] = deque([((), tuple(conflict))])
    seen: set[frozenset[int]] = set()
    size = 0
    while waiting:
        chosen, standing = waiting.popleft()
        if size and len(chosen) >= size:
            return
        for entry in standing:
            relaxed = (*chosen, entry)
            key = frozenset(map(id, relaxed))
            if key in seen:
                continue
            seen.add(key)
            kept = [other for other in entries if id(other) not in key]
            if solvable(kept):
                size = len(relaxed)
                yield relaxed
            elif not size:
                waiting.append((relaxed, tuple(_minimal_conflict(kept, solvable))))
