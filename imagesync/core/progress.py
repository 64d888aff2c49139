"""Progress of the stages: the protocol, and progress as plain lines or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, TextIO

from imagesync.core.text import clean, clean_lines, encodable, format_done, format_duration, format_total

Unit = Literal["bytes", "packages", "steps"]

# Seconds between two lines, and at least between two lines for quarters of the total.
PAUSE = 5.0
QUARTER_PAUSE = 2.0


class Task(Protocol):
    """Work that is under way."""

    def advance(self, amount: int) -> None:
        """Add *amount*, in the task's unit, to the completed work."""

    def grow(self, amount: int) -> None:
        """Add *amount* to the total, when more work becomes known."""

    def describe(self, text: str) -> None:
        """Show what the task is doing now, in a few words."""


class Progress(Protocol):
    """Where stages report: bars on a terminal, plain lines elsewhere, on stderr."""

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


class PlainProgress:
    """Progress as lines on *stream*: one when a task starts, one when it ends, few in between.

    Parameters
    ----------
    stream
        Where lines go; usually stderr.
    clock
        Monotonic time in seconds.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task; lines report its start, its progress and its duration."""
        label = clean(label)
        task = _PlainTask(self, label, total, unit, self._clock)
        self.line(label if not total else f"{label} ({format_total(total, unit)})")
        try:
            yield task
        except Exception:
            self.line(f"{label}: failed after {task.elapsed}")
            raise
        except BaseException:
            self.line(f"{label}: stopped after {task.elapsed}")
            raise
        self.line(f"{label}: {task.summary} in {task.elapsed}")

    def line(self, text: str) -> None:
        """Print each line of *text*."""
        block = "".join(f"{line}\n" for line in clean_lines(text))
        with self._lock:
            self._stream.write(encodable(block, self._stream))
            self._stream.flush()


class _PlainTask:
    """A task that prints its progress now and then; safe to advance from several threads."""

    def __init__(
        self, progress: PlainProgress, label: str, total: int | None, unit: Unit, clock: Callable[[], float]
    ) -> None:
        self._progress = progress
        self._label = label
        self._total = total
        self._unit = unit
        self._clock = clock
        self._lock = threading.Lock()
        self._done = 0
        self._doing = ""
        self._started = self._printed = clock()
        self._quarter = 0

    @property
    def elapsed(self) -> str:
        """Return the duration of the task so far."""
        return format_duration(self._clock() - self._started)

    @property
    def summary(self) -> str:
        """Return the amount done, or ``done`` where nothing was counted."""
        return format_total(self._done, self._unit) if self._done else "done"

    def advance(self, amount: int) -> None:
        """Add *amount* to the completed work."""
        with self._lock:
            self._done += amount
            text = self._due()
        if text:
            self._progress.line(text)

    def grow(self, amount: int) -> None:
        """Add *amount* to the total."""
        with self._lock:
            self._total = (self._total or 0) + amount

    def describe(self, text: str) -> None:
        """Show *text* in the next line that is due."""
        with self._lock:
            self._doing = clean(text)
            line = self._due()
        if line:
            self._progress.line(line)

    def _due(self) -> str:
        """Return the line that is due, or nothing; the caller holds the lock."""
        now = self._clock()
        quarter = 4 * self._done // self._total if self._total else 0
        pause = QUARTER_PAUSE if quarter > self._quarter else PAUSE
        if now - self._printed < pause:
            return ""
        self._printed = now
        self._quarter = quarter
        parts = [format_done(self._done, self._total, self._unit), self._doing]
        return f"{self._label}: " + ", ".join(part for part in parts if part)
