"""Measuring: what one run cost, contenders in turns, and ratios with their spread."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_SAMPLES = 0.02  # seconds between two looks at the machine's memory


@dataclass(frozen=True)
class Run:
    """What one run cost. ``None`` where the system doesn't count (not Linux).

    Parameters
    ----------
    seconds
        By the clock.
    cpu
        Processor seconds of the whole machine: an engine and its containers count, and so does anything
        else that runs, so run benchmarks on a quiet machine.
    own_cpu
        Processor seconds of the commands that the contender started.
    memory
        The most that the machine's available memory fell by, in bytes. The page cache is available memory.
    read
        Bytes that the commands read, from files and from connections.
    received
        Bytes on the interface of the default route.
    processes
        Processes and threads that were started on the machine.
    counted
        What the contender counts itself, such as requests to the engine.
    """

    seconds: float
    cpu: float | None = None
    own_cpu: float | None = None
    memory: int | None = None
    read: int | None = None
    received: int | None = None
    processes: int | None = None
    counted: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON."""
        return {**asdict(self), "counted": dict(self.counted)}


Contender = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class _Counters:
    """What the machine has counted since it was started, by the names of :class:`Run`."""

    cpu: float | None
    own_cpu: float | None
    read: int | None
    received: int | None
    processes: int | None

    def since(self, before: _Counters) -> dict[str, Any]:
        return {
            name: None if old is None or new is None else new - old
            for name, old, new in ((name, getattr(before, name), value) for name, value in vars(self).items())
        }


def _count() -> _Counters:
    if not sys.platform.startswith("linux"):
        return _Counters(None, None, None, None, None)
    routes = [line.split() for line in Path("/proc/net/route").read_text("ascii").splitlines()[1:]]
    interface = next((fields[0] for fields in routes if fields[1] == "00000000"), None)
    received = None
    if interface is not None:
        lines = Path("/proc/net/dev").read_text("ascii").splitlines()
        received = next(int(line.split()[1]) for line in lines if line.split()[0] == f"{interface}:")
    stat = Path("/proc/stat").read_text("ascii").splitlines()
    # All but idle and waiting for the disk; what guests use is in `user` already (proc_stat(5)).
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, stat[0].split()[1:])
    processes = next(int(line.split()[1]) for line in stat if line.startswith("processes "))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of this process and of its children that have ended.
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text("ascii").splitlines())
    return _Counters(
        cpu=(user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"),
        own_cpu=children.ru_utime + children.ru_stime,
        read=int(io["rchar"]),
        received=received,
        processes=processes,
    )


class _LowestMemory(threading.Thread):
    """Looks at the machine's available memory until it is stopped; ``fall`` is how far it fell, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stopped = threading.Event()
        self._first = self._lowest = _available()

    def run(self) -> None:
        while not self._stopped.wait(_SAMPLES):
            self._lowest = min(self._lowest, _available())

    def stop(self) -> int:
        self._stopped.set()
        self.join()
        return self._first - self._lowest


def _available() -> int:
    with Path("/proc/meminfo").open("rb") as file:
        line = next(line for line in file if line.startswith(b"MemAvailable:"))
    return int(line.split()[1]) * 1024


def run_once(contender: Contender) -> Run:
    """Run *contender* once, and return what it cost."""
    watch = _LowestMemory() if sys.platform.startswith("linux") else None
    before = _count()
    if watch is not None:
        watch.start()
    start = time.perf_counter()
    counted = contender()
    seconds = time.perf_counter() - start
    memory = watch.stop() if watch is not None else None
    return Run(seconds, memory=memory, counted=counted, **_count().since(before))


def in_turns(
    contenders: Mapping[str, Contender],
    *,
    runs: int,
    warm_up: bool,
    measured: Callable[[str, int, Run], None] = lambda name, turn, run: None,
    prepare: Callable[[str], object] = lambda name: None,
) -> dict[str, list[Run]]:
    """Run the contenders A B A B ..., so that what slows the machine for a while slows both.

    Parameters
    ----------
    warm_up
        Run each once before, unmeasured.
    measured
        Is told each run at once, with the name and the turn.
    prepare
        Is called with the name before each run, unmeasured.
    """
    if warm_up:
        for name, contender in contenders.items():
            prepare(name)
            contender()
    results: dict[str, list[Run]] = {name: [] for name in contenders}
    for turn in range(runs):
        for name, contender in contenders.items():
            prepare(name)
            run = run_once(contender)
            # A run that is ended early has told what it measured.
            print(f"{name}: {run.seconds:.2f} s", file=sys.stderr, flush=True)
            measured(name, turn, run)
            results[name].append(run)
    return results


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

    >>> str(ratio([Run(1), Run(1), Run(3)], [Run(2), Run(4), Run(4)]))
    '0.50 (0.25 to 0.75)'
    """
    ratios = [our.seconds / their.seconds for our, their in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def median_seconds(runs: list[Run]) -> float:
    """Return the median time, in seconds."""
    return statistics.median(run.seconds for run in runs)
