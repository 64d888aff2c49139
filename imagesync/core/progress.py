"""Progress as the stages report it: tasks with a real total, advanced as work is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

Unit = Literal["bytes", "packages", "steps"]


class Task(Protocol):
    """Work that is under way."""

    def advance(self, amount: int) -> None:
        """Add *amount* of the task's unit to what is done."""

    def grow(self, amount: int) -> None:
        """Add *amount* to the total, when more work becomes known."""

    def describe(self, text: str) -> None:
        """Show what the task is doing now, in a few words."""


class Progress(Protocol):
    """Where stages report; on a terminal bars, elsewhere plain lines, both on stderr."""

    def task(self, label: str, *, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
        """Open a task; *total* is in *unit*, or ``None`` where it isn't known."""

    def line(self, text: str) -> None:
        """Print one line that stays."""


class _SilentTask:
    def advance(self, amount: int) -> None: ...

    def grow(self, amount: int) -> None: ...

    def describe(self, text: str) -> None: ...


class SilentProgress:
    """Progress that shows nothing, for ``--quiet`` and for library calls."""

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task that shows nothing."""
        yield _SilentTask()

    def line(self, text: str) -> None:
        """Print nothing."""
