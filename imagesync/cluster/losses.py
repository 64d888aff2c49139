"""Losses of workers, counted so that a worker that is lost again and again isn't replaced for ever."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from imagesync.standalone.cluster import node

_NO_REPORT = {"losses": 0, "ended": "", "supervisor": "", "age": 0.0}


class Losses:
    """The recent losses of each worker, and a line for each.

    Process 1 of a worker's container starts the worker again, and reports to the scheduler how many it has
    lost. The engine reports the end of containers. Either is a loss.

    Parameters
    ----------
    clock
        Returns seconds, which never go back.

    >>> losses = Losses(clock=iter(range(0, 100, 10)).__next__)
    >>> [losses.add(0, "was ended by signal 9") for _ in range(3)]
    [False, False, True]
    >>> losses.lines[0]
    'Worker 0 was ended by signal 9.'
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[Hashable, list[float]] = defaultdict(list)
        self._reported: dict[str, int] = {}  # losses, by the ID that process 1 gives itself
        self._supervisors: dict[Hashable, str] = {}
        self._replaced: set[str] = set()
        self.lines: list[str] = []

    def add(self, name: Hashable, ended: str, *, age: float = 0, counts: bool = True) -> bool:
        """Record a loss of the worker *name*, and return ``True`` if it has been lost too often.

        Parameters
        ----------
        name
            Name of the worker.
        ended
            How it ended, after its name.
        age
            Seconds since then.
        counts
            ``False`` for a worker that was asked to start again and is slow.
        """
        self.lines.append(f"Worker {name} {ended}.")
        end = self._clock() - age
        times = self._times[name] = [lost for lost in self._times[name] if end - lost < node.WINDOW]
        times += [end] if counts else []
        return len(times) >= node.LOSSES

    def replace(self, name: Hashable) -> None:
        """Ignore the container that the worker *name* had: it may come back while it is removed."""
        if supervisor := self._supervisors.pop(name, ""):
            self._replaced.add(supervisor)

    def is_replaced(self, identity: Mapping[str, Any]) -> bool:
        """Return ``True`` for a worker of a container that is being removed.

        Parameters
        ----------
        identity
            What the scheduler knows of the worker.
        """
        return _report_of(identity)["supervisor"] in self._replaced

    def report(self, name: Hashable, identity: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Return how the predecessors ended that process 1 has replaced since the last report, and its age.

        Parameters
        ----------
        name
            Name of a worker that has joined.
        identity
            What the scheduler knows of it.
        """
        report = _report_of(identity)
        supervisor = self._supervisors[name] = str(report["supervisor"])
        new = int(report["losses"]) - self._reported.get(supervisor, 0)
        self._reported[supervisor] = int(report["losses"])
        return [(str(report["ended"]), float(report["age"]))] * new


def _report_of(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the report of process 1 with a worker; workers with a nanny have none."""
    report: Mapping[str, Any] = identity.get("imagesync") or _NO_REPORT
    return report
