"""Progress in a Jupyter notebook: one bar, the finished steps on a click, and the lines that stay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from imagesync.core.notebook import Table, card
from imagesync.core.progress import OpenTask, Severity, Task, Unit
from imagesync.core.text import clean, clean_lines, counted, format_duration, format_elapsed

_DRAW_INTERVAL = 0.1
"""Least time between two drawings, in seconds."""
_TICK = 1.0
"""Seconds between two drawings while nothing happens, for the elapsed time."""

_LONG = 3.0
"""Seconds after which the end of an activity's output is shown."""


class Handle(Protocol):
    """An output of a cell (``IPython.display.DisplayHandle``)."""

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        """Replace the content of the output."""


@dataclass(frozen=True)
class _Step:
    """A task that has ended, or a message about one, which has no duration."""

    label: str
    done: str = ""
    seconds: float | None = None
    outcome: str = ""

    @property
    def duration(self) -> str:
        """Return the duration as text."""
        return "" if self.seconds is None else format_duration(self.seconds)


class NotebookProgress:
    """One output for each cell: a bar for the task that was started last, and the lines that were printed.

    Parameters
    ----------
    shell
        The running shell, for the number of the current cell.
    show
        Shows content as a new output, and returns its handle.
    clock
        Monotonic time in seconds.
    """

    def __init__(
        self,
        shell: Any,  # noqa: ANN401  IPython isn't required
        show: Callable[[dict[str, str]], Handle],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shell = shell
        self._show = show
        self._clock = clock
        self._lock = threading.RLock()
        self._handle: Handle | None = None
        self._cell = -1
        self._tasks: list[_NotebookTask] = []
        self._steps: list[_Step] = []
        self._lines: list[str] = []
        self._started = self._drawn = 0.0
        self.had_tasks = False

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task with the bar; when it ends, it becomes one of the finished steps."""
        task = _NotebookTask(self, clean(label), total, unit, self._clock)
        self.had_tasks = True
        with self._lock:
            self._enter_cell()
            self._tasks.append(task)
            self.draw()
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(ended,), daemon=True)
        ticker.start()
        outcome = "stopped"
        try:
            yield task
            outcome = ""
        except Exception:
            outcome = "failed"
            raise
        finally:
            ended.set()
            ticker.join()
            with self._lock:
                self._tasks.remove(task)
                self._steps.append(_Step(task.label, task.summary, task.seconds, outcome))
                self.draw()

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Show *text* below the bar, or among the steps if it is information about an open one."""
        if not severity.is_shown(Severity.INFO):
            return
        lines = clean_lines(severity.lead + text)
        with self._lock:
            self._enter_cell()
            if self._tasks and severity is Severity.INFO:
                self._steps += [_Step(line) for line in lines]
            else:
                self._lines += lines
            self.draw()

    def draw(self, *, always: bool = True) -> None:
        """Bring the output up to date; unless *always*, not again within a tenth of a second."""
        with self._lock:
            now = self._clock()
            if not always and now - self._drawn < _DRAW_INTERVAL:
                return
            self._drawn = now
            content = {"text/html": self._html(now), "text/plain": "\n".join(self._text())}
            if self._handle is None:
                self._handle = self._show(content)
            else:
                self._handle.update(content, raw=True)

    def _tick(self, ended: threading.Event) -> None:
        while not ended.wait(_TICK):
            self.draw()

    def _enter_cell(self) -> None:
        """Begin a new output in a new cell; the caller holds the lock."""
        cell = self._shell.execution_count
        if cell != self._cell and not self._tasks:
            self._cell, self._handle = cell, None
            self._steps, self._lines = [], []
            self._started = self._clock()

    def _html(self, now: float) -> str:
        parts = []
        if self._tasks:
            task = self._tasks[-1]
            value = f' value="{task.done}" max="{task.total}"' if task.total else ""
            state = f"{task.state} {format_elapsed(task.seconds)}".strip()
            doing = f"{task.doing} {task.counted}".strip()
            parts.append(f"<div>{escape(task.label)} {escape(doing)}</div>")
            parts.append(f'<div><progress style="width: 20em"{value}></progress> {escape(state)}</div>')
            if task.doing_seconds >= _LONG and (tail := list(task.tail)):
                parts.append(f"<pre>{escape(chr(10).join(tail))}</pre>")
        steps = [(step.label, f"{step.outcome} {step.done}".strip(), step.duration) for step in self._steps]
        if steps:
            tones = ["bad" if step.outcome else "" for step in self._steps]
            ended = sum(step.seconds is not None for step in self._steps)
            title = f"{counted(ended, 'step')} in {format_duration(now - self._started)}"
            parts.append(Table(title, ("step", "", "time"), steps, tones, is_open=any(tones)).to_html())
        parts += [f"<div>{escape(line)}</div>" for line in self._lines]
        return card("".join(parts))

    def _text(self) -> Iterator[str]:
        """Yield the lines for what shows no HTML."""
        for step in self._steps:
            if step.seconds is None:
                yield step.label
            else:
                yield f"{step.label}: {step.outcome or step.done or 'done'} in {step.duration}"
        yield from self._lines


class _NotebookTask(OpenTask):
    """A task with the bar."""

    def __init__(
        self,
        progress: NotebookProgress,
        label: str,
        total: int | None,
        unit: Unit,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(label, total, unit, clock)
        self._progress = progress

    def _changed(self) -> None:
        self._progress.draw(always=False)


def notebook_progress() -> NotebookProgress | None:
    """Return the progress of the notebook that this process is the kernel of; ``None`` if there is none."""
    import sys

    # Whoever runs in a kernel has imported it; this mustn't.
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    display = ipython.display.display
    return NotebookProgress(shell, lambda content: display(content, raw=True, display_id=True))
