"""Waiting for processes that announce neither their start nor their end, and finding those of a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    """Ask again and again, as for processes of the engine, or children of a child."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


def sleeping(seconds: str) -> list[str]:
    """Return the IDs of the processes of ``sleep`` with the argument *seconds*, in containers too."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(cmdline.parent.name)
    return found
