"""Why something can't be solved: which of a user's entries contradict one another, and what to let go.

It asks the solver again and again, with some entries relaxed, and so works for every solver: that of conda
packages as well as those of Python packages. How it is said is the same for all of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
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


class Unanswered(Exception):
    """A question has no answer, such as one that took too long: the search ends with what was found."""


def explain(
    entries: Sequence[Entry],
    solvable: Callable[[Sequence[Entry]], bool],
    *,
    seconds: float,
    suspects: Collection[Entry] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Explanation[Entry]:
    """Return a minimal conflict among *entries*, which can't all hold, and the smallest remedies.

    Parameters
    ----------
    solvable
        Whether everything can be solved when the given entries hold, and all others are relaxed. It may
        raise :class:`Unanswered`.
    seconds
        How long to look at most.
    suspects
        Those of *entries* that are likely to be in a conflict: where they contradict one another by
        themselves, the others aren't asked about.

    >>> def solvable(entries):
    ...     return not {"a", "d"} <= set(entries) and not {"b", "d"} <= set(entries)
    >>> explain("abcd", solvable, seconds=5)
    Explanation(conflict=('a', 'd'), remedies=(('d',),))
    """
    deadline = clock() + seconds

    def asked(some: Sequence[Entry]) -> bool:
        if clock() > deadline:
            raise Unanswered
        return solvable(some)

    likely = set(map(id, suspects))

    def find(some: list[Entry]) -> list[Entry]:
        few = [entry for entry in some if id(entry) in likely]
        return _minimal_conflict(few if few and not asked(few) else some, asked)

    conflict: tuple[Entry, ...] = ()
    remedies: list[tuple[Entry, ...]] = []
    try:
        if not asked(()):
            return Explanation()
        conflict = tuple(find(list(entries)))
        for remedy in _smallest_remedies(list(entries), conflict, asked, find):
            remedies.append(remedy)
            if len(remedies) == _REMEDIES:
                break
    except Unanswered:
        pass
    return Explanation(conflict, tuple(remedies))


def contradiction(entries: Sequence[str], platform: str) -> str:
    """Return *entries*, which contradict one another, as a list to stand after a message; nothing for none.

    >>> print(contradiction(["a 1.0", "b 2.0"], "linux-64"))
    <BLANKLINE>
    These of your packages can't go together on linux-64:
    - a 1.0
    - b 2.0
    """
    if not entries:
        return ""
    subject = (
        "These of your packages can't go together"
        if len(entries) > 1
        else "This can't be had, whatever else gives way,"
    )
    return f"\n{subject} on {platform}:\n" + "\n".join(f"- {entry}" for entry in entries)


def way_out(remedies: Sequence[Sequence[str]]) -> str:
    """Return in words that another version of one of *remedies*, each a set of names, would do.

    >>> way_out([["a"], ["b", "c"]])
    'It can be solved if another version of a or b and c will do.'
    """
    sets = " or ".join(" and ".join(names) for names in remedies)
    return f"It can be solved if another version of {sets} will do."


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
    entries: list[Entry],
    conflict: Sequence[Entry],
    solvable: Callable[[Sequence[Entry]], bool],
    find: Callable[[list[Entry]], list[Entry]],
) -> Iterator[tuple[Entry, ...]]:
    """Yield the smallest sets whose relaxing leaves no conflict; *find* finds one among the rest.

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
                waiting.append((relaxed, tuple(find(kept))))
