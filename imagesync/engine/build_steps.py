"""The steps of a build: shown while they run, written to a log, and quoted in the error if one fails."""

from __future__ import annotations

import re
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from imagesync.core.build_log import BuildLog, open_log, split_lines
from imagesync.core.credentials import redact
from imagesync.core.progress import Progress, Severity, Task
from imagesync.errors import BuildError

LOG_TAIL = 40
"""Number of lines of a failed step's output that the error quotes."""
_NAME_WIDTH = 100
_OPTIONS = re.compile(r"(\] [A-Z]+ )(?:--\S+ )+")
# What install programs print after each package.
_COUNT = re.compile(r"\[(?P<done>\d+)/(?P<total>\d+)\] (?P<name>.+)")
_EXIT_CODE = re.compile(r"(?:exit code: |exit status |returned a non-zero code: )(\d+)")


@dataclass
class _Step:
    label: str
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_TAIL))
    unfinished: str = ""
    done: bool = False
    numbered: bool = False
    running: bool = False


class Steps:
    """The steps of one build; a context manager that closes the log and the progress bar.

    Parameters
    ----------
    progress
        Shows the steps.
    log
        The file that gets the whole log, redacted; ``None`` keeps only the last lines of each step.
    """

    def __init__(self, *, progress: Progress, log: Path | None) -> None:
        self._progress = progress
        self._log_path = log
        self._log: BuildLog | None = None
        self._steps: dict[str, _Step] = {}
        self._failed: tuple[str, str] | None = None
        self._task: Task | None = None
        self._shown: _Step | None = None
        self._exits = ExitStack()

    def __enter__(self) -> Steps:
        if self._log_path is not None:
            self._log = self._exits.enter_context(open_log(self._log_path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)

    @property
    def running(self) -> bool:
        """Return True if a step runs that has been reported."""
        return any(step.running for step in self._steps.values())

    @property
    def done(self) -> int:
        """Return the number of steps that have ended."""
        return sum(step.done for step in self._steps.values())

    def known(self, key: str, label: str, *, numbered: bool) -> None:
        """Add a step; a numbered one is shown, and counted in the total of :meth:`expect`."""
        if key not in self._steps:
            self._steps[key] = _Step(redact(label), numbered=numbered)

    def knows(self, key: str) -> bool:
        """Return True if a step was added."""
        return key in self._steps

    def expect(self, number: int) -> None:
        """Add a number of steps to the total."""
        if not number:
            return
        if self._task is None:
            task = self._progress.task("Building the image", total=number, unit="steps")
            self._task = self._exits.enter_context(task)
        else:
            self._task.grow(number)

    def started(self, key: str) -> None:
        """Show that a step runs now."""
        step = self._steps[key]
        if step.numbered and not step.done and not step.running:
            step.running = True
            self._show(step)

    def output(self, key: str, text: str) -> None:
        """Add a piece of a step's output, which may end in the middle of a line."""
        step = self._steps[key]
        lines, step.unfinished = split_lines(step.unfinished + text)
        for line in lines:
            self._line(step, line)

    def finished(self, key: str, *, cached: bool = False, seconds: float | None = None) -> None:
        """Record that a step is done."""
        step = self._steps[key]
        self._flush(step)
        if step.done:
            return
        step.done, step.running = True, False
        how = "cached" if cached else "done" if seconds is None else f"{seconds:.1f} s"
        self._write(f"{step.label}: {how}")
        if step.numbered and self._task is not None:
            self._task.advance(1)
            self._progress.line(f"{_shortened(step.label)}: {how}")
            self._show(next((other for other in reversed(self._steps.values()) if other.running), None))

    def _show(self, step: _Step | None) -> None:
        """Show that a step runs now, or none, as while the engine exports layers."""
        self._shown = step
        if self._task is not None:
            self._task.describe("" if step is None else _shortened(step.label))

    def failed(self, key: str, error: str) -> None:
        """Record why a step failed."""
        self._flush(self._steps[key])
        self._failed = (key, error)

    def error(self, message: str) -> BuildError:
        """Return the error of a failed build, with the name and the last output of the failed step.

        Parameters
        ----------
        message
            The engine's message.
        """
        self._write(f"error: {message}")
        hint = None if self._log_path is None else f"The whole log: {self._log_path}"
        key, reason = self._failed or (None, message)
        if key is None or not (self._steps[key].numbered or self._steps[key].tail):
            return BuildError(f"The build failed: {redact(reason or message).strip()}", hint=hint)
        step = self._steps[key]
        code = _EXIT_CODE.search(reason) or _EXIT_CODE.search(message)
        how = f"exit code {code[1]}" if code else redact(reason).strip()
        lines = [f"The build failed at step {step.label}", f"({how}). The end of its log:"]
        if not step.tail:
            lines = [lines[0], f"({how}), which printed nothing."]
        return BuildError("\n".join((" ".join(lines), *(f"    {line}" for line in step.tail))), hint=hint)

    def _flush(self, step: _Step) -> None:
        if step.unfinished:
            self._line(step, step.unfinished)
            step.unfinished = ""

    def _line(self, step: _Step, line: str) -> None:
        # Keep only the last state of a progress bar that overwrites itself.
        text = redact(line.rstrip("\r").rpartition("\r")[2])
        step.tail.append(text)
        if step is self._shown and self._task is not None:
            if count := _COUNT.fullmatch(text):
                self._task.count(int(count["done"]), int(count["total"]), count["name"])
            else:
                self._task.output(text)
        self._progress.line(f"{step.label.partition(' ')[0]} {text}", Severity.TRACE)
        self._write(f"{step.label.partition(' ')[0]} {text}")

    def _write(self, text: str) -> None:
        if self._log is not None:
            self._log.line(text)


def _shortened(label: str) -> str:
    """Return a step's name on one line, without the options before its command, cut between words.

    >>> _shortened("[2/3] RUN --mount=type=tmpfs,target=/mnt     echo fine")
    '[2/3] RUN echo fine'
    """
    name = _OPTIONS.sub(r"\1", " ".join(label.split()))
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 3].rpartition(" ")[0] + " ..."
