"""Progress of the stages: the protocol, messages and their severity, and progress as plain lines."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum
from typing import Literal, Protocol, TextIO

from imagesync.core.text import (
    clean,
    clean_lines,
    encodable,
    format_done,
    format_duration,
    format_elapsed,
    format_total,
)

Unit = Literal["bytes", "packages", "steps", "workers"]

REQUEST_EVENT = "imagesync.request"
"""Audit event (PEP 578) of a request that Python doesn't audit, with its description."""

# Seconds between two lines, and at least between two lines for quarters of the total.
PAUSE = 5.0
QUARTER_PAUSE = 2.0
# Seconds without any line after which a task says that it is under way.
SILENCE = 20.0
# Seconds after which :func:`slow_task` opens its task.
SLOW = 1.0
# The number of lines of an activity's output that are kept.
_TAIL = 5


class Severity(str, Enum):
    """The severity of a message or a finding, the most serious first."""

    ERROR = "error"
    WARNING = "warning"
    DEVIATION = "deviation"
    """A difference between the image and the environment."""
    INFO = "info"
    DETAIL = "detail"
    """A command that is run, or what is asked of whom: for ``-v``."""
    TRACE = "trace"
    """Output of a step, or an answer: for ``-vv``."""

    def is_shown(self, least: Severity) -> bool:
        """Return True if a message of this severity is shown where *least* is the least severe one shown."""
        order = list(Severity)
        return order.index(self) <= order.index(least)

    @property
    def lead(self) -> str:
        """Return the words before a message of this severity."""
        return f"{self.value}: " if self in {Severity.ERROR, Severity.WARNING} else ""


class Task(Protocol):
    """Work that is under way."""

    def advance(self, amount: int) -> None:
        """Add *amount*, in the task's unit, to the completed work."""

    def grow(self, amount: int) -> None:
        """Add *amount* to the total, when more work becomes known."""

    def describe(self, text: str) -> None:
        """Show what the task is doing now, in a few words."""

    def count(self, done: int, total: int, text: str) -> None:
        """Show the number of packages that are done in what the task is doing now, and the last one."""

    def output(self, line: str) -> None:
        """Add a line of output of what the task is doing now; it is shown while that takes long."""


class Progress(Protocol):
    """Where stages report: bars on a terminal or in a notebook, plain lines elsewhere, on stderr."""

    had_tasks: bool
    """Whether a task was opened."""

    def task(self, label: str, *, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
        """Open a task; *total* is in *unit*, or ``None`` where it isn't known."""

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Print one line that stays, if lines of its severity are shown."""


class _SilentTask:
    def advance(self, amount: int) -> None: ...

    def grow(self, amount: int) -> None: ...

    def describe(self, text: str) -> None: ...

    def count(self, done: int, total: int, text: str) -> None: ...

    def output(self, line: str) -> None: ...


class SilentProgress:
    """Progress that shows nothing, for library calls."""

    had_tasks = False

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task that shows nothing."""
        yield _SilentTask()

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Print nothing."""


class _DelayedTask(_SilentTask):
    """A task that is opened by :meth:`open`, unless it has ended by then."""

    def __init__(self, open_task: Callable[[], Task]) -> None:
        self._open_task = open_task
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._done = 0
        self._has_ended = False

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            if self._task is not None:
                self._task.advance(amount)

    def open(self) -> None:
        with self._lock:
            if not self._has_ended:
                self._task = self._open_task()
                self._task.advance(self._done)

    def end(self) -> None:
        with self._lock:
            self._has_ended = True


@contextmanager
def slow_task(
    progress: Progress, label: str, *, total: int, unit: Unit, delay: float = SLOW
) -> Iterator[Task]:
    """Open a task that is shown only if it takes longer than *delay* seconds; only its amount is shown."""
    with ExitStack() as stack:
        if not total:
            yield _SilentTask()
            return
        task = _DelayedTask(lambda: stack.enter_context(progress.task(label, total=total, unit=unit)))
        timer = threading.Timer(delay, task.open)
        timer.daemon = True
        timer.start()
        try:
            yield task
        finally:
            timer.cancel()
            task.end()


class OpenTask:
    """A task and what it is doing, for any kind of display; safe to use from several threads.

    Parameters
    ----------
    label, total, unit
        As in :meth:`Progress.task`.
    clock
        Monotonic time in seconds.
    """

    def __init__(self, label: str, total: int | None, unit: Unit, clock: Callable[[], float]) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self.doing = ""
        self.counted = ""
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        # Activities may alternate: each keeps its own start.
        self._starts: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Return the duration of the task so far."""
        return self._clock() - self._started

    @property
    def doing_seconds(self) -> float:
        """Return the duration so far of what the task is doing now."""
        return self._clock() - self._starts.get(self.doing, self._started)

    @property
    def summary(self) -> str:
        """Return the amount done, or nothing where nothing was counted."""
        return format_total(self.done, self.unit) if self.done else ""

    @property
    def state(self) -> str:
        """Return the amount done, out of the total where that is known."""
        return format_done(self.done, self.total, self.unit)

    def advance(self, amount: int) -> None:
        """Add *amount* to the completed work."""
        with self._lock:
            self.done += amount
            if self.total is not None:
                self.total = max(self.total, self.done)  # totals of archives are estimates
            self._changed()

    def grow(self, amount: int) -> None:
        """Add *amount* to the total."""
        with self._lock:
            self.total = (self.total or 0) + amount
            self._changed()

    def describe(self, text: str) -> None:
        """Show *text* as what the task is doing now."""
        with self._lock:
            text = clean(text)
            if text != self.doing:
                self.doing, self.counted = text, ""
                self.tail.clear()
                self._starts.setdefault(text, self._clock())
            self._changed()

    def count(self, done: int, total: int, text: str) -> None:
        """Show the number of packages that are done in the current activity, and the last one."""
        with self._lock:
            self.counted = f"{format_done(done, total, 'packages')}, {clean(text)}"
            self._changed()

    def output(self, line: str) -> None:
        """Add a line of output of the current activity."""
        with self._lock:
            self.tail.append(clean(line))

    def _changed(self) -> None:
        """Update the display; the caller holds the lock."""


class PlainProgress:
    """Progress as lines on *stream*: one when a task starts, one when it ends, few in between.

    Parameters
    ----------
    stream
        Where lines go; usually stderr.
    least
        The least severe messages that are shown; tasks are shown with those of severity ``INFO``.
    clock
        Monotonic time in seconds.
    silence
        Seconds without any line after which a task says that it is under way.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        least: Severity = Severity.INFO,
        clock: Callable[[], float] = time.monotonic,
        silence: float = SILENCE,
    ) -> None:
        self._stream = stream
        self._least = least
        self._clock = clock
        self._silence = silence
        self._lock = threading.Lock()
        self._printed = clock()
        self.had_tasks = False

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task; lines report its start, its progress and its duration."""
        self.had_tasks = True
        label = clean(label)
        task = _PlainTask(self, label, total, unit, self._clock)
        self.line(label if not total else f"{label} ({format_total(total, unit)})")
        ended = threading.Event()
        if Severity.INFO.is_shown(self._least):
            threading.Thread(target=self._beat, args=(task, ended), daemon=True).start()
        try:
            yield task
        except Exception:
            self.line(f"{label}: failed after {format_duration(task.seconds)}")
            raise
        except BaseException:
            self.line(f"{label}: stopped after {format_duration(task.seconds)}")
            raise
        finally:
            ended.set()
        self.line(f"{label}: {task.summary or 'done'} in {format_duration(task.seconds)}")

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Print each line of *text*, after the word for its severity."""
        if not severity.is_shown(self._least):
            return
        block = "".join(f"{line}\n" for line in clean_lines(severity.lead + text))
        with self._lock:
            self._printed = self._clock()
            self._stream.write(encodable(block, self._stream))
            self._stream.flush()

    def _beat(self, task: _PlainTask, ended: threading.Event) -> None:
        """Print what a task is doing whenever nothing else was printed for a while."""
        while not ended.wait(max(self._silence - (self._clock() - self._printed), self._silence / 20)):
            if self._clock() - self._printed >= self._silence:
                self.line(task.report())


class _PlainTask(OpenTask):
    """A task that prints its progress now and then."""

    def __init__(
        self, progress: PlainProgress, label: str, total: int | None, unit: Unit, clock: Callable[[], float]
    ) -> None:
        super().__init__(label, total, unit, clock)
        self._progress = progress
        self._printed = clock()
        self._quarter = 0

    def report(self) -> str:
        """Return a line about what is done and under way."""
        parts = [self.state, self.doing, self.counted, format_elapsed(self.seconds)]
        line = f"{self.label}: " + ", ".join(part for part in parts if part)
        return f"{line}: {self.tail[-1]}" if self.tail and not self.counted else line

    def _changed(self) -> None:
        now = self._clock()
        quarter = 4 * self.done // self.total if self.total else 0
        pause = QUARTER_PAUSE if quarter > self._quarter else PAUSE
        if now - self._printed >= pause:
            self._printed = now
            self._quarter = quarter
            self._progress.line(self.report())
