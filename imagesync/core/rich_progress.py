"""Progress as bars on a terminal, drawn by rich."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskID
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.table import Column
from rich.text import Text

from imagesync.core.progress import Task, Unit
from imagesync.core.text import clean, clean_lines, format_done, format_duration, format_total

# The least width, in cells, for a bar beside the text.
_BAR_NEEDS = 60


class RichProgress:
    """Bars while tasks run, and one line for each that stays when it ends.

    Parameters
    ----------
    stream
        A terminal; usually stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._lock = threading.Lock()
        self._open = 0
        columns: list[ProgressColumn] = [SpinnerColumn(), _LabelColumn()]
        if self._console.width >= _BAR_NEEDS:
            columns.append(BarColumn(bar_width=20))
        # stdout carries the command's result: rich must not redirect it to stderr.
        self._bars = Bars(
            *columns, _DoneColumn(), console=self._console, transient=True, redirect_stdout=False, expand=True
        )

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task with a bar; when it ends, one line reports the amount and the duration."""
        label = clean(label)
        with self._drawn():
            bar = self._bars.add_task(label, total=total, unit=unit, doing="")
            task = _RichTask(self._bars, bar)
            mark, style, summary = "✗", "red", "stopped"
            try:
                yield task
                mark, style, summary = "✓", "green", ""
            except Exception:
                summary = "failed"
                raise
            finally:
                state = task.state
                done = format_total(int(state.completed), unit) if state.completed else ""
                parts = [summary or done, format_duration(state.elapsed or 0)]
                self._bars.remove_task(bar)
                # Otherwise the bar would be drawn again below the last line.
                self._bars.refresh()
                self._print_end(mark, style, label, ", ".join(part for part in parts if part))

    def line(self, text: str) -> None:
        """Print *text* above the bars."""
        for line in clean_lines(text):
            self._console.print(Text(line), soft_wrap=True)

    def _print_end(self, mark: str, style: str, label: str, summary: str) -> None:
        try:
            mark.encode(self._console.encoding)
        except UnicodeEncodeError:
            mark = "-"
        line = Text.assemble((mark, style), f" {label} ", (summary, "dim"))
        self._console.print(line, soft_wrap=True)

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """Draw from the first open task to the last, so that nothing is drawn between stages."""
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._bars.start()
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._bars.stop()


class _RichTask:
    """One bar; rich's own lock makes it safe to advance from several threads."""

    def __init__(self, bars: Bars, bar: TaskID) -> None:
        self._bars = bars
        self._bar = bar
        self._lock = threading.Lock()

    @property
    def state(self) -> Bar:
        """Return rich's object for the bar."""
        return next(task for task in self._bars.tasks if task.id == self._bar)

    def advance(self, amount: int) -> None:
        """Add *amount* to the completed work."""
        self._bars.advance(self._bar, amount)

    def grow(self, amount: int) -> None:
        """Add *amount* to the total."""
        with self._lock:
            self._bars.update(self._bar, total=(self.state.total or 0) + amount)

    def describe(self, text: str) -> None:
        """Show *text* beside the label."""
        self._bars.update(self._bar, doing=clean(text))


class _LabelColumn(ProgressColumn):
    """The label and the current activity, truncated at the terminal's width."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))

    def render(self, task: Bar) -> Text:
        """Return the label and the current activity."""
        doing = task.fields["doing"]
        return Text.assemble(task.description, (f" {doing}", "dim") if doing else "")


class _DoneColumn(ProgressColumn):
    """The completed work in the task's unit; the elapsed time if nothing is counted."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(no_wrap=True, justify="right"))

    def render(self, task: Bar) -> Text:
        """Return the completed amount, or else the elapsed time."""
        total = None if task.total is None else int(task.total)
        done = format_done(int(task.completed), total, task.fields["unit"])
        return Text(done or format_duration(int(task.elapsed or 0)))
