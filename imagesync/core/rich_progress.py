"""Progress as bars on a terminal, drawn by rich."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskID
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.table import Column
from rich.text import Text

from imagesync.core.progress import OpenTask, Severity, Task, Unit
from imagesync.core.text import clean, clean_lines, format_duration, format_elapsed, wrapped

# The least width, in cells, for a bar beside the text.
_BAR_NEEDS = 60
# Seconds after which an activity gets a line of its own, and its output is shown.
_LONG = 3.0
_STYLES = {
    Severity.ERROR: "red",
    Severity.WARNING: "yellow",
    Severity.DEVIATION: "yellow",
    Severity.INFO: "",
    Severity.DETAIL: "dim",
    Severity.TRACE: "dim",
}


class RichProgress:
    """Bars while tasks run, and one line for each that stays when it ends.

    Parameters
    ----------
    stream
        A terminal; usually stderr.
    least
        The least severe messages that are shown.
    clock
        Monotonic time in seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        least: Severity = Severity.INFO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._least = least
        self._clock = clock
        self._lock = threading.Lock()
        self._open = 0
        self.had_tasks = False
        columns: list[ProgressColumn] = [SpinnerColumn(), _LabelColumn()]
        if self._console.width >= _BAR_NEEDS:
            columns.append(BarColumn(bar_width=20))
        # stdout carries the command's result: rich must not redirect it to stderr.
        self._bars = _Bars(
            *columns, _DoneColumn(), console=self._console, transient=True, redirect_stdout=False, expand=True
        )

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Open a task with a bar; when it ends, one line reports the amount and the duration."""
        self.had_tasks = True
        label = clean(label)
        with self._drawn():
            task = _RichTask(self._bars, label, total, unit, self._clock)
            mark, style, summary = "✗", "red", "stopped"
            try:
                yield task
                mark, style, summary = "✓", "green", task.summary
            except Exception:
                summary = "failed"
                raise
            finally:
                self._bars.remove_task(task.bar)
                # Otherwise the bar would be drawn again below the last line.
                self._bars.refresh()
                parts = [summary, format_duration(task.seconds)]
                self._print_end(mark, style, label, ", ".join(part for part in parts if part))

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Print *text* above the bars, after the word for its severity."""
        if not severity.is_shown(self._least):
            return
        style = _STYLES[severity]
        for number, line in enumerate(clean_lines(severity.lead + text)):
            for place, part in enumerate(wrapped(line, self._console.width)):
                shown = Text(part, style="" if severity.lead else style)
                if severity.lead and number == place == 0:
                    shown.stylize(f"bold {style}", 0, len(severity.lead))
                self._console.print(shown, soft_wrap=True)

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


class _Bars(Bars):
    """Bars, each above the activity that takes long and the end of its output."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bars and the lines below them."""
        for bar in self.tasks:
            yield self.make_tasks_table([bar])
            task: OpenTask = bar.fields["task"]
            if task.doing and task.doing_seconds >= _LONG:
                parts = [task.counted, format_elapsed(task.doing_seconds)]
                yield _beside(task.doing, ", ".join(part for part in parts if part), self.console.width)
                for line in list(task.tail):
                    yield Text(f"    {line}", style="dim", no_wrap=True, overflow="ellipsis")


def _beside(text: str, right: str, width: int) -> Text:
    """Return *text*, cut where it leaves no room for *right*."""
    shown = Text(f"  {text}", no_wrap=True)
    shown.truncate(max(width - len(right) - 2, 0), overflow="ellipsis", pad=True)
    return Text.assemble(shown, "  ", (right, "dim"), no_wrap=True, overflow="ellipsis")


class _RichTask(OpenTask):
    """A task with a bar."""

    def __init__(
        self, bars: Bars, label: str, total: int | None, unit: Unit, clock: Callable[[], float]
    ) -> None:
        super().__init__(label, total, unit, clock)
        self._bars = bars
        self.bar: TaskID = bars.add_task(label, total=total, task=self)

    def _changed(self) -> None:
        self._bars.update(self.bar, completed=self.done, total=self.total)


class _LabelColumn(ProgressColumn):
    """The label and the current activity, truncated at the terminal's width."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))

    def render(self, task: Bar) -> Text:
        """Return the label and, until it has a line of its own, the current activity."""
        state: OpenTask = task.fields["task"]
        doing = state.doing if state.doing_seconds < _LONG else ""
        return Text.assemble(state.label, (f" {doing}", "dim") if doing else "")


class _DoneColumn(ProgressColumn):
    """The completed work in the task's unit, and the elapsed time."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(no_wrap=True, justify="right"))

    def render(self, task: Bar) -> Text:
        """Return the completed amount and the elapsed time."""
        state: OpenTask = task.fields["task"]
        return Text("  ".join(filter(None, [state.state, format_elapsed(state.seconds)])))
