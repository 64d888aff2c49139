"""What tests say that have waited in vain."""

from __future__ import annotations

import pytest

from tests.processes import wait_until


def test_wait_in_vain_names_condition_values_and_state() -> None:
    number = 1
    expected = (
        r"not within 0 s: wait_until\(lambda: number == 2, 0, .* \(.*test_processes.py:\d+\); number=1; seen"
    )
    with pytest.raises(AssertionError, match=expected):
        wait_until(lambda: number == 2, 0, state=lambda: "seen")
