"""Calls in a background thread."""

from __future__ import annotations

import threading

import pytest

from imagesync.core.background import BackgroundCall


def test_call_runs_while_its_result_is_not_awaited() -> None:
    started, release = threading.Event(), threading.Event()

    def answer() -> int:
        started.set()
        assert release.wait(60)
        return 42

    call = BackgroundCall(answer)
    assert started.wait(60)
    release.set()
    assert call.result() == call.result() == 42


def test_exception_is_raised_where_the_result_is_taken() -> None:
    def refuse() -> int:
        raise ConnectionRefusedError("nobody there")

    call = BackgroundCall(refuse)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError, match="nobody there"):
            call.result()
