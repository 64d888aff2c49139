"""Minimal conflicts and the smallest remedies, checked against every subset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesync.lock.explain.conflicts import Explanation, Unanswered, explain

NAMES = "abcdef"


def solver(conflicts: Sequence[frozenset[str]]) -> Callable[[Sequence[str]], bool]:
    return lambda entries: not any(conflict <= set(entries) for conflict in conflicts)


@given(
    st.lists(st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3), min_size=1, max_size=4),
    st.frozensets(st.sampled_from(NAMES)),
)
def test_conflict_is_minimal_and_the_remedies_are_the_smallest(
    conflicts: list[frozenset[str]], suspects: frozenset[str]
) -> None:
    solvable = solver(conflicts)
    found = explain(NAMES, solvable, seconds=60, suspects=suspects)
    assert not solvable(found.conflict)
    assert all(solvable([e for e in found.conflict if e != entry]) for entry in found.conflict)
    smallest = next(
        size
        for size in count(1)
        if any(solvable([e for e in NAMES if e not in gone]) for gone in combinations(NAMES, size))
    )
    assert found.remedies
    for remedy in found.remedies:
        assert len(remedy) == smallest
        assert solvable([entry for entry in NAMES if entry not in remedy])


def test_no_conflict_is_found_if_relaxing_everything_does_not_help() -> None:
    assert explain(NAMES, lambda entries: False, seconds=60) == Explanation()


def test_search_ends_at_its_time_limit() -> None:
    ticks = count()
    found = explain(NAMES, solver([frozenset("ad")]), seconds=4, clock=lambda: float(next(ticks)))
    assert found.remedies == ()


def test_unanswered_question_ends_the_search_with_the_results_so_far() -> None:
    solvable = solver([frozenset("ad")])

    def answered(entries: Sequence[str]) -> bool:
        # So many are asked for only when remedies are tried.
        if entries == list("bcdef"):
            raise Unanswered
        return solvable(entries)

    assert explain(NAMES, answered, seconds=60) == Explanation(("a", "d"))


@pytest.mark.parametrize(("suspects", "most"), [((), 40), (("package-7", "package-20", "package-140"), 9)])
def test_conflict_of_two_among_many_takes_few_questions(suspects: tuple[str, ...], most: int) -> None:
    asked = []
    solvable = solver([frozenset({"package-7", "package-140"})])

    def counted(entries: Sequence[str]) -> bool:
        asked.append(entries)
        return solvable(entries)

    entries = [f"package-{number}" for number in range(150)]
    suspected = [entry for entry in entries if entry in suspects]
    found = explain(entries, counted, seconds=60, suspects=suspected)
    assert set(found.conflict) == {"package-7", "package-140"}
    assert len(found.remedies) == 2
    assert len(asked) < most
