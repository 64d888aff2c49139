"""A plugin of pytest that lists the tests by their processor time, with all that they start.

``make test ARGS="-p tests.processor_times"`` lists them at the end of each part's log in ``.work``. A fixture
of the session or of a module counts for the first test that uses it. What goes on after its parent has ended
isn't counted. Docker has a column of its own, with all that others have it do meanwhile: to compare tests
that use it, run them with nothing beside them.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

LISTED: Final = 150
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PARTS: Final = ("setup", "call", "teardown", "engine")


class ProcessorTimes:
    """Seconds of each test and phase: what this process and those it started have spent in between."""

    def __init__(self) -> None:
        self.phases: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._before = processor_seconds(), engine_seconds()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Count what comes before the first test."""
        try:
            return (yield)
        finally:
            self._add("(collection)", "setup")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a phase of a test that has ended."""
        self._add(report.nodeid, report.when or "")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List the sum, and what cost most."""
        tests = Counter({test: sum(phases.values()) for test, phases in self.phases.items()})
        files: Counter[str] = Counter()
        for test, seconds in tests.items():
            files[test.partition("::")[0]] += seconds
        engine = sum(phases["engine"] for phases in self.phases.values())
        terminalreporter.section(
            f"processor seconds: {sum(tests.values()):.0f} of {len(tests)} tests, {engine:.0f} of the engine"
        )
        for file, seconds in files.most_common(LISTED // 3):
            terminalreporter.line(f"{seconds:8.2f}  {file}")
        terminalreporter.line("".join(f"{name:>9}" for name in ("total", *_PARTS))[1:])
        for test, seconds in tests.most_common(LISTED):
            parts = "".join(f"{self.phases[test][part]:9.2f}" for part in _PARTS)
            terminalreporter.line(f"{seconds:8.2f}{parts}  {test}")

    def _add(self, test: str, phase: str) -> None:
        now = processor_seconds(), engine_seconds()
        for part, seconds, before in zip((phase, "engine"), now, self._before, strict=True):
            self.phases[test][part] += seconds - before
        self._before = now


def processor_seconds() -> float:
    """Return the seconds of this process and its descendants, ended ones too."""
    # Unlike getrusage, /proc tells of servers that go on running, and of those that these have waited for.
    own = os.times()
    return sum(own[:4]) + _seconds_below(os.getpid(), _processes())


def engine_seconds() -> float:
    """Return the seconds of Docker's daemons, and of all containers and steps of builds that there were."""
    seconds = 0.0
    # A control group keeps the time of those that were in it.
    with suppress(OSError):
        seconds += int(Path("/sys/fs/cgroup/cpuacct/docker/cpuacct.usage").read_text()) / 1e9
    with suppress(OSError):  # of version 2, without systemd
        seconds += int(Path("/sys/fs/cgroup/docker/cpu.stat").read_text().split()[1]) / 1e6
    processes = _processes()
    daemons = [number for number, process in processes.items() if process.name == "dockerd"]
    own = sum(processes[daemon].ticks for daemon in daemons) / _TICKS
    return seconds + own + sum(_seconds_below(daemon, processes) for daemon in daemons)


class _Process(NamedTuple):
    """A process: its name, its parent, and its ticks with those of its children that have ended."""

    name: str
    parent: int
    ticks: int


def _processes() -> dict[int, _Process]:
    """Return all processes by their numbers."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The second field is a name, and may hold spaces and parentheses.
            begin, _, end = (folder / "stat").read_text(errors="replace").rpartition(")")
        except OSError:
            continue
        fields = end.split()
        ticks = sum(map(int, fields[11:15]))
        found[int(folder.name)] = _Process(begin.partition("(")[2], int(fields[1]), ticks)
    return found


def _seconds_below(number: int, processes: dict[int, _Process]) -> float:
    """Return the seconds of the processes that descend from one, with their children that have ended."""
    children = defaultdict(list)
    for child, process in processes.items():
        children[process.parent].append(child)
    found = list(children[number])
    for child in found:
        found += children[child]
    return sum(processes[child].ticks for child in found) / _TICKS


def pytest_configure(config: pytest.Config) -> None:
    """Count from here on."""
    config.pluginmanager.register(ProcessorTimes())
