"""Measuring: contenders in turns, what each run cost, and ratios with their spread."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Counters:
    """What the machine has counted since it was started; ``None`` where it doesn't count (not Linux).

    Parameters
    ----------
    received
        Bytes, on the interface of the default route.
    processes
        Processes and threads that were started. Of the whole machine: run benchmarks on a quiet one.
    """

    received: int | None
    processes: int | None


@dataclass(frozen=True)
class Run:
    """What one run cost.

    Parameters
    ----------
    counted
        What the contender itself counts, such as requests to the engine or the image's size in bytes.
    """

    seconds: float
    received: int | None
    processes: int | None
    counted: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON."""
        return {**asdict(self), "counted": dict(self.counted)}


Contender = Callable[[], Mapping[str, int]]


def count() -> Counters:
    """Return the machine's counters."""
    try:
        routes = [line.split() for line in Path("/proc/net/route").read_text("ascii").splitlines()[1:]]
        interface = next(fields[0] for fields in routes if fields[1] == "00000000")
        received = int(Path(f"/sys/class/net/{interface}/statistics/rx_bytes").read_text("ascii"))
    except (OSError, StopIteration):
        received = None
    try:
        lines = Path("/proc/stat").read_text("ascii").splitlines()
        processes = next(int(line.split()[1]) for line in lines if line.startswith("processes "))
    except (OSError, StopIteration):
        processes = None
    return Counters(received, processes)


def run_once(contender: Contender) -> Run:
    """Run *contender* once, and return what it cost."""
    before = count()
    start = time.perf_counter()
    counted = contender()
    seconds = time.perf_counter() - start
    after = count()
    return Run(
        seconds,
        received=_difference(before.received, after.received),
        processes=_difference(before.processes, after.processes),
        counted=counted,
    )


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def in_turns(contenders: Mapping[str, Contender], *, runs: int, warm_up: bool) -> dict[str, list[Run]]:
    """Run the contenders A B A B ..., so that what slows the machine for a while slows both.

    Parameters
    ----------
    warm_up
        Run each once before, unmeasured.
    """
    if warm_up:
        for contender in contenders.values():
            contender()
    measured: dict[str, list[Run]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():
            run = run_once(contender)
            # A run that is ended early has told what it measured.
            print(f"{name}: {run.seconds:.1f} s", file=sys.stderr, flush=True)
            measured[name].append(run)
    return measured


@dataclass(frozen=True)
class Ratio:
    """How two contenders compare: the median over the turns, and the smallest and largest."""

    median: float
    smallest: float
    largest: float

    def __str__(self) -> str:
        """Return ``0.42 (0.40 to 0.45)``."""
        return f"{self.median:.2f} ({self.smallest:.2f} to {self.largest:.2f})"


def ratio(ours: list[Run], theirs: list[Run]) -> Ratio:
    """Return the ratio of times, turn by turn.

    >>> run = lambda seconds: Run(seconds, None, None, {})
    >>> str(ratio([run(1), run(1), run(3)], [run(2), run(4), run(4)]))
    '0.50 (0.25 to 0.75)'
    """
    ratios = [our.seconds / their.seconds for our, their in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def median_seconds(runs: list[Run]) -> float:
    """Return the median time, in seconds."""
    return statistics.median(run.seconds for run in runs)
