"""A plugin of pytest that lists the tests by their processor time, with all that they start.

``make test ARGS="-p tests.processor_times"`` lists them at the end of each part's log in ``.work``. A fixture
of the session or of a module counts for the first test that uses it. The container engine isn't counted, nor
is what goes on after its parent has ended.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

LISTED: Final = 150
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ProcessorTimes:
    """Seconds of each test and phase: what this process and those it started have spent in between."""

    def __init__(self) -> None:
        self.phases: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._before = processor_seconds()

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
        terminalreporter.section(f"processor seconds: {sum(tests.values()):.0f} of {len(tests)} tests")
        for file, seconds in files.most_common(LISTED // 3):
            terminalreporter.line(f"{seconds:8.2f}  {file}")
        terminalreporter.line("   total    setup     call teardown")
        for test, seconds in tests.most_common(LISTED):
            phases = self.phases[test]
            parts = "".join(f"{phases[phase]:9.2f}" for phase in ("setup", "call", "teardown"))
            terminalreporter.line(f"{seconds:8.2f}{parts}  {test}")

    def _add(self, test: str, phase: str) -> None:
        now = processor_seconds()
        self.phases[test][phase] += now - self._before
        self._before = now


def processor_seconds() -> float:
    """Return the seconds of this process and its descendants, ended ones too."""
    # Unlike getrusage, /proc tells of servers that go on running, and of those that these have waited for.
    own = os.times()
    return sum(own[:4]) + sum(_descendants(os.getpid())) / _TICKS


def _descendants(process: int) -> Iterator[int]:
    """Yield the ticks of each process that descends from *process*, with its children that have ended."""
    states = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The second field is a name, and may hold spaces and parentheses.
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        states[int(folder.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    children = defaultdict(list)
    for number, (parent, _) in states.items():
        children[parent].append(number)
    found = list(children[process])
    for number in found:
        yield states[number][1]
        found += children[number]


def pytest_configure(config: pytest.Config) -> None:
    """Count from here on."""
    config.pluginmanager.register(ProcessorTimes())
