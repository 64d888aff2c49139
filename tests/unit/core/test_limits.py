"""The least speed of a transfer: what counts as slow, by a clock of the test's own."""

from __future__ import annotations

from itertools import accumulate

import pytest

from imagesync.core.limits import TooSlow, bounded


def transfer(size: int, pauses: list[float]) -> list[bytes]:
    """Return the chunks of a transfer, which come with these pauses between them, in seconds."""
    times = iter([0.0, *accumulate(pauses)])
    return list(bounded([b"x" * size] * len(pauses), clock=lambda: next(times)))


def test_sender_of_a_few_bytes_now_and_then_is_too_slow() -> None:
    with pytest.raises(TooSlow, match="only 60 bytes in 60 s"):
        transfer(10, [10.0] * 8)


def test_process_that_was_stopped_is_not_too_slow() -> None:
    assert len(transfer(50_000, [1.0, 3600.0, 1.0, 1.0])) == 4


def test_pauses_that_the_sender_makes_again_and_again_count() -> None:
    with pytest.raises(TooSlow):
        transfer(10, [3600.0] * 3)
