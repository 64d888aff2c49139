"""Progress, as the stages see it: a task with a real total, advanced as work is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, TextIO

from imagesync.core.terminal import is_interactive

Unit = Literal["bytes", "packages", "steps"]


class Task(Protocol):
    """One thing under way."""

    def advance(self, amount: int) -> None:
        """Add *amount* of the task's unit to what is done."""

    def grow(self, amount: int) -> None:
        """Add *amount* to the total, when more work becomes known."""

    def describe(self, text: str) -> None:
        """Say what the task is doing now, in a few words."""


class Progress(Protocol):
    """Where stages report; on a terminal bars, elsewhere plain lines, both on stderr."""

    def task(self, label: str, *, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
        """Open a task; *total* is in *unit*, ``None`` where it can't be known."""

    def line(self, text: str) -> None:
        """Print one line that stays."""


class _SilentTask:
    def advance(self, amount: int) -> None: ...

    def grow(self, amount: int) -> None: ...

    def describe(self, text: str) -> None: ...


class SilentProgress:
    """Progress that nobody sees, for ``--quiet`` and for library calls."""

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task that shows nothing."""
        yield _SilentTask()

    def line(self, text: str) -> None:
        """Print nothing."""


def make_progress(
    *, quiet: bool, stream: TextIO | None = None, environ: Mapping[str, str] | None = None
) -> Progress:
    """Return bars for a terminal, plain lines for anything else, nothing where *quiet*.

    Parameters
    ----------
    stream
        Where progress is shown; stderr if not given.
    environ
        What says which terminal it is; the process's own if not given.
    """
    stream = sys.stderr if stream is None else stream
    if quiet:
        return SilentProgress()
    if is_interactive(stream, environ):
        # rich takes 0.1 s to import, which an answer without progress must not pay.
        from imagesync.core.rich_progress import RichProgress

        return RichProgress(stream)
    from imagesync.core.plain_progress import PlainProgress

    return PlainProgress(stream)
