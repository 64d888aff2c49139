from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from imagesync.core.progress import PAUSE, QUARTER_PAUSE, PlainProgress, Severity, Task, Unit, slow_task
from imagesync.core.terminal import make_progress
from tests.terminals import on_terminal


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(stream: io.StringIO, clock: Clock) -> PlainProgress:
    return PlainProgress(stream, clock=clock)


def test_plain_progress_prints_start_and_end(
    progress: PlainProgress, stream: io.StringIO, clock: Clock
) -> None:
    with progress.task("Fetching", total=130_000_000, unit="bytes") as task:
        task.advance(130_000_000)
        clock.now += 12.34
    assert stream.getvalue() == "Fetching (130.0 MB)\nFetching: 130.0 MB in 12.3 s\n"


def test_plain_progress_prints_done_where_nothing_was_counted(
    progress: PlainProgress, stream: io.StringIO
) -> None:
    with progress.task("Checking the image", total=None, unit="steps"):
        pass
    assert stream.getvalue() == "Checking the image\nChecking the image: done in 0.00 s\n"


@pytest.mark.parametrize(
    ("error", "word"),
    [(ValueError(), "failed"), (KeyboardInterrupt(), "stopped"), (SystemExit(1), "stopped")],
)
def test_plain_progress_prints_that_a_task_failed(
    progress: PlainProgress, stream: io.StringIO, error: BaseException, word: str
) -> None:
    with pytest.raises(type(error)), progress.task("Building", total=None, unit="steps"):
        raise error
    assert stream.getvalue().splitlines()[-1] == f"Building: {word} after 0.00 s"


def test_amount_is_never_more_than_the_total(
    progress: PlainProgress, stream: io.StringIO, clock: Clock
) -> None:
    with progress.task("Saving", total=100_000_000, unit="bytes") as task:
        clock.now += 10
        task.advance(104_000_000)
    assert "Saving: 104.0/104.0 MB, 10 s\n" in stream.getvalue()


class NotedProgress(PlainProgress):
    """Progress that says when a task has been opened."""

    opened = threading.Event()

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        with super().task(label, total=total, unit=unit) as task:
            self.opened.set()
            yield task


def test_slow_task_is_shown_with_what_was_done_before(stream: io.StringIO, clock: Clock) -> None:
    progress = NotedProgress(stream, clock=clock)
    with slow_task(progress, "Reading metadata", total=4, unit="packages", delay=0) as task:
        task.advance(1)
        assert progress.opened.wait(60)
        task.advance(3)
    expected = "Reading metadata (4 packages)\nReading metadata: 4 packages in 0.00 s\n"
    assert stream.getvalue() == expected


@pytest.mark.parametrize(("total", "delay"), [(4, 600), (0, 0)])
def test_quick_task_is_not_shown(
    progress: PlainProgress, stream: io.StringIO, total: int, delay: float
) -> None:
    with slow_task(progress, "Reading metadata", total=total, unit="packages", delay=delay) as task:
        task.advance(total)
    assert stream.getvalue() == ""
    assert not progress.had_tasks


def test_plain_progress_pauses_between_lines(
    progress: PlainProgress, stream: io.StringIO, clock: Clock
) -> None:
    with progress.task("Fetching", total=1000, unit="packages") as task:
        for _ in range(1000):
            clock.now += 0.1
            task.advance(1)
    lines = stream.getvalue().splitlines()
    # 100 seconds: one line every 5, the start, the end, and a few where a quarter was done.
    assert 100 / PAUSE <= len(lines) <= 100 / PAUSE + 2 + 4


def test_plain_progress_prints_each_quarter(
    progress: PlainProgress, stream: io.StringIO, clock: Clock
) -> None:
    with progress.task("Fetching", total=4, unit="packages") as task:
        clock.now += QUARTER_PAUSE
        task.describe("numpy")
        task.advance(1)
    assert stream.getvalue().splitlines()[1] == "Fetching: 1/4 packages, numpy, 2 s"


def test_plain_progress_follows_a_growing_total(
    progress: PlainProgress, stream: io.StringIO, clock: Clock
) -> None:
    with progress.task("Fetching", total=None, unit="packages") as task:
        task.grow(10)
        task.grow(10)
        clock.now += PAUSE
        task.advance(5)
    assert stream.getvalue().splitlines()[1] == "Fetching: 5/20 packages, 5 s"


def test_plain_progress_writes_no_control_characters(
    progress: PlainProgress, stream: io.StringIO, clock: Clock
) -> None:
    with progress.task("Step \x1b[31mone\x1b[0m\r", total=None, unit="steps") as task:
        clock.now += PAUSE
        task.describe("\x1b[2Jpip\tinstall\x07")
        progress.line("first \x1b]0;title\x07line\nsecond\x9b line")
    assert stream.getvalue().splitlines() == [
        "Step one\\r",
        "Step one\\r: pip install\\x07, 5 s",
        "first line",
        "second\\x9b line",
        "Step one\\r: done in 5.0 s",
    ]


def test_plain_progress_escapes_what_the_stream_cannot_encode() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    PlainProgress(stream).line("wählt \udcff")
    assert raw.getvalue() == b"w\\xe4hlt \\udcff\n"


def test_plain_progress_counts_exactly_from_several_threads(
    progress: PlainProgress, stream: io.StringIO
) -> None:
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(2000):
            task.advance(1)

    with progress.task("Fetching", total=16_000, unit="packages") as task:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stream.getvalue().splitlines()[-1].startswith("Fetching: 16000 packages in ")


def test_plain_progress_says_what_runs_after_a_silence(stream: io.StringIO) -> None:
    printed = threading.Event()

    class Stream(io.StringIO):
        def flush(self) -> None:
            if "Linking a package\n" in self.getvalue():
                printed.set()

    shown = Stream()
    with PlainProgress(shown, silence=0.05).task("Building", total=9, unit="steps") as task:
        task.advance(3)
        task.describe("[4/9] RUN install_conda.py")
        task.output("Linking a package")
        assert printed.wait(60)
        task.count(12, 162, "numpy 2.1.0")
    lines = shown.getvalue().splitlines()
    assert "Building: 3/9 steps, [4/9] RUN install_conda.py, 0 s: Linking a package" in lines


def test_line_after_a_silence_has_the_counted_packages(
    progress: PlainProgress, stream: io.StringIO, clock: Clock
) -> None:
    with progress.task("Building", total=9, unit="steps") as task:
        task.describe("[4/9] RUN install_conda.py")
        clock.now += 80
        task.count(12, 162, "numpy 2.1.0")
    assert (
        "Building: 0/9 steps, [4/9] RUN install_conda.py, 12/162 packages, numpy 2.1.0, 1 min 20 s\n"
        in stream.getvalue()
    )


@pytest.mark.parametrize(
    ("least", "shown"),
    [
        (Severity.DEVIATION, ["warning: w", "differs: numpy"]),
        (Severity.INFO, ["warning: w", "differs: numpy", "note", "Task", "Task: done in 0.00 s"]),
        (
            Severity.DETAIL,
            ["warning: w", "differs: numpy", "note", "run: uv", "Task", "Task: done in 0.00 s"],
        ),
    ],
)
def test_messages_are_shown_by_their_severity(
    stream: io.StringIO, clock: Clock, least: Severity, shown: list[str]
) -> None:
    progress = PlainProgress(stream, least=least, clock=clock)
    progress.line("w", Severity.WARNING)
    progress.line("differs: numpy", Severity.DEVIATION)
    progress.line("note")
    progress.line("run: uv", Severity.DETAIL)
    progress.line("output", Severity.TRACE)
    with progress.task("Task", total=None, unit="steps"):
        pass
    assert stream.getvalue().splitlines() == shown


def test_pipe_gets_lines(stream: io.StringIO) -> None:
    assert isinstance(make_progress(stream=stream), PlainProgress)


LONG = """
import os, sys
from imagesync.core.rich_progress import RichProgress

now = 100.0
progress = RichProgress(sys.stderr, clock=lambda: now)
with progress.task("Building the image", total=9, unit="steps") as task:
    task.advance(3)
    task.describe("[4/9] RUN python3 install_conda.py " + "x" * 100)
    for number in range(9):
        task.output(f"line {number} " + "y" * 100)
    task.count(12, 162, "numpy 2.1.0")
    progress._bars.refresh()
    os.write(2, b"SHORT")
    now += 75
    progress._bars.refresh()
    os.write(2, b"LONG")
"""


def test_long_activity_shows_its_time_its_count_and_the_end_of_its_output() -> None:
    code, shown = on_terminal(LONG, columns=80)
    assert code == 0
    early, _, late = plain(shown).partition("SHORT")
    late = late.partition("LONG")[0]
    assert "line 8" not in early
    assert "3/9 steps  1 min 15 s" in late
    assert "12/162 packages, numpy 2.1.0, 1 min 15 s" in late
    assert "line 3 " not in late
    assert "line 4 " in late
    assert "line 8 " in late
    assert max(len(line) for line in re.split(r"[\r\n]+", late)) <= 80


SHOW = """
import sys, threading
from imagesync.core.terminal import make_progress

progress = make_progress(stream=sys.stderr)
barrier = threading.Barrier(4)

def work():
    barrier.wait()
    for _ in range(1000):
        task.advance(1000)
        task.grow(1)

with progress.task("Fetching [red]", total=4_000_000 - 4000, unit="bytes") as task:
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    task.describe("[bold]numpy\\x1b[2J")
    progress.line("a line [green]that stays[/]")
    for thread in threads:
        thread.join()
with progress.task("Building", total=None, unit="steps"):
    print("the answer", flush=True)
"""


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_terminal_gets_bars_and_one_line_for_each_task() -> None:
    code, shown = on_terminal(SHOW, columns=100)
    assert code == 0
    assert "✓ Fetching [red] 4.0 MB, " in plain(shown)
    assert "a line [green]that stays[/]" in plain(shown)
    assert "the answer" in plain(shown)
    assert "/4.0 MB" in plain(shown)
    assert "\x1b[2J" not in shown, "the screen is cleared by a message"
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h"), "the cursor stays hidden"


def test_message_wraps_between_words_and_a_path_stays_whole() -> None:
    code = """
import sys
from imagesync.core.progress import Severity
from imagesync.core.terminal import make_progress

path = "/a" * 40
make_progress(stream=sys.stderr).line(f"some words in front of {path} and behind", Severity.WARNING)
"""
    exit_code, shown = on_terminal(code, columns=40)
    assert exit_code == 0
    assert plain(shown).splitlines() == ["warning: some words in front of", "/a" * 40, "and behind"]


def test_narrow_terminal_gets_no_line_wider_than_itself() -> None:
    code, shown = on_terminal(SHOW, columns=30)
    assert code == 0
    drawn = re.split(r"\r|\n", plain(shown))
    assert max(len(line) for line in drawn if " MB" in line and "✓" not in line) <= 30


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_dumb_terminal_gets_plain_lines(environ: dict[str, str]) -> None:
    code, shown = on_terminal(SHOW, columns=100, environ=environ)
    assert code == 0
    assert "\x1b" not in shown
    assert "Fetching [red]: 4.0 MB in " in shown


def test_no_color_terminal_gets_bars_without_colours() -> None:
    code, shown = on_terminal(SHOW, columns=100, environ={"NO_COLOR": "1"})
    assert code == 0
    colours = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", shown) for code in codes.split(";")}
    assert colours <= {"", "0", "1", "2"}, "only bold and dim are no colours"


def test_interrupt_restores_the_cursor() -> None:
    code, shown = on_terminal(
        """
import signal, sys
from imagesync.core.terminal import make_progress

with make_progress(stream=sys.stderr).task("Building", total=10, unit="steps"):
    signal.raise_signal(signal.SIGINT)
""",
        columns=80,
    )
    assert code != 0
    assert "✗ Building stopped, " in plain(shown)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
