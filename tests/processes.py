"""Waiting for processes that announce neither their start nor their end, and finding those of a test."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

PATIENCE: Final = 120.0
"""Seconds to wait for what takes moments, since this machine may have other work."""


def wait_until(
    condition: Callable[[], object],
    seconds: float = PATIENCE,
    *,
    state: Callable[[], object] | None = None,
) -> None:
    """Ask again and again, as for processes of the engine, or children of a child.

    Parameters
    ----------
    condition
        Asked until it is true; where it isn't in time, its source and what it uses are in the error.
    seconds
        The longest wait.
    state
        Gives what else is shown then.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            seen = "" if state is None else f"; {state()}"
            raise AssertionError(f"not within {seconds:g} s: {_described(condition)}{seen}")
        time.sleep(0.1)


def _described(condition: Callable[[], object]) -> str:
    """Return the source of a lambda, its place, and the values that it uses; of others their form as text."""
    if getattr(condition, "__name__", "") != "<lambda>":
        return repr(condition)
    lines, number = inspect.getsourcelines(condition)
    values = inspect.getclosurevars(condition).nonlocals
    used = "".join(f"; {name}={value!r}" for name, value in values.items())
    return f"{' '.join(''.join(lines).split())} ({inspect.getsourcefile(condition)}:{number}){used}"


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
