"""Counting the losses of workers."""

from __future__ import annotations

from typing import Any

from imagesync.cluster.losses import Losses


def identity(losses: int, *, supervisor: str = "a", age: float = 1.0) -> dict[str, Any]:
    report = {"losses": losses, "ended": "was ended by signal 9", "supervisor": supervisor, "age": age}
    return {"imagesync": report}


def losses_at(*seconds: float) -> Losses:
    return Losses(clock=iter(seconds).__next__)


def test_three_losses_within_a_minute_are_too_many() -> None:
    losses = losses_at(0, 30, 59, 61)
    assert [losses.add(0, "ended") for _ in range(4)] == [False, False, True, True]


def test_losses_of_other_workers_and_older_ones_do_not_count() -> None:
    losses = losses_at(0, 1, 2, 60, 61)
    assert [losses.add(name, "ended") for name in (0, 1, 0, 0, 1)] == [False] * 5


def test_loss_counts_from_when_it_happened() -> None:
    losses = losses_at(10, 20, 65)
    assert not losses.add(0, "ended", age=8)
    assert not losses.add(0, "ended")
    assert not losses.add(0, "ended"), "the first one was 63 s ago"


def test_worker_that_was_asked_to_start_again_has_a_line_and_no_loss() -> None:
    losses = losses_at(0, 1, 2)
    assert [losses.add(0, "is slow", counts=False) for _ in range(3)] == [False] * 3
    assert losses.lines == ["Worker 0 is slow."] * 3


def test_each_loss_in_a_container_is_reported_once() -> None:
    losses = Losses()
    assert losses.report(0, identity(0)) == []
    assert losses.report(0, identity(1)) == [("was ended by signal 9", 1.0)]
    assert losses.report(0, identity(1)) == []
    assert losses.report(0, identity(1, supervisor="b")) == [("was ended by signal 9", 1.0)]
    assert losses.report(1, {}) == [], "a nanny's worker reports nothing"


def test_container_that_is_being_removed_is_known() -> None:
    losses = Losses()
    losses.report(0, identity(0))
    assert not losses.is_replaced(identity(1))
    losses.replace(0)
    assert losses.is_replaced(identity(1))
    assert not losses.is_replaced(identity(0, supervisor="b"))
