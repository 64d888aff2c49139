"""What was measured, for a person and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from benchmarks.measure import Ratio, Run, median_seconds, ratio
from imagesync.cli.tables import Row, Section, print_sections
from imagesync.core.text import format_size


@dataclass(frozen=True)
class Figure:
    """One comparison.

    Parameters
    ----------
    ours, theirs
        Names of the contenders; the first is divided by the second.
    goal
        The largest ratio of medians that is good enough; ``None`` where nothing is promised.
    limit
        The longest time of ours that is good enough, in seconds.
    images
        What is known of each contender's image; ours may not be the larger one.
    """

    name: str
    ours: str
    theirs: str
    runs: dict[str, list[Run]]
    goal: float | None = None
    limit: float | None = None
    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def ratio(self) -> Ratio:
        """Return how the times compare."""
        return ratio(self.runs[self.ours], self.runs[self.theirs])

    @property
    def good(self) -> bool:
        """Return whether goal and limit are kept, and our image is no larger."""
        fast = self.limit is None or median_seconds(self.runs[self.ours]) <= self.limit
        small = not self.images or self.images[self.ours]["size"] <= self.images[self.theirs]["size"]
        return fast and small and (self.goal is None or self.ratio.median <= self.goal)

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as JSON, every run in it."""
        return {
            "name": self.name,
            "ratio": {"ours": self.ours, "theirs": self.theirs, **vars(self.ratio)},
            "goal": self.goal,
            "limit_seconds": self.limit,
            "good": self.good,
            "images": {name: dict(facts) for name, facts in self.images.items()},
            "runs": {name: [run.to_dict() for run in runs] for name, runs in self.runs.items()},
        }


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    try:
        cpu = next(
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        cpu = platform.machine()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": f"{load:.2f}",
    }


def print_figure(figure: Figure, stream: TextIO) -> None:
    """Print one figure: each contender's times and counters, and how they compare."""
    rows = tuple(Row(_cells(name, runs)) for name, runs in figure.runs.items())
    verdict = f"ratio {figure.ratio} to {figure.theirs}"
    if figure.goal is not None:
        verdict += f", goal at most {figure.goal}"
    if figure.limit is not None:
        verdict += f", at most {figure.limit} s"
    headers = ("", "median", "fastest", "slowest", "received", "processes", "counted")
    images = [
        f"image of {name}: {format_size(facts['size'])}, {facts['without_bytecode']} sources without bytecode"
        for name, facts in figure.images.items()
    ]
    others = [
        f"ratio {ratio(figure.runs[figure.ours], runs)} to {name}"
        for name, runs in figure.runs.items()
        if name not in {figure.ours, figure.theirs}
    ]
    notes = (*images, *others, f"{verdict}: {'kept' if figure.good else 'MISSED'}")
    section = Section(figure.name, headers, rows, frozenset(range(1, 6)), notes)
    print_sections([section, Section(title="")], stream)


def _cells(name: str, runs: list[Run]) -> tuple[str, ...]:
    seconds = [run.seconds for run in runs]
    received = [run.received for run in runs if run.received is not None]
    processes = [run.processes for run in runs if run.processes is not None]
    return (
        name,
        f"{statistics.median(seconds):.2f} s",
        f"{min(seconds):.2f} s",
        f"{max(seconds):.2f} s",
        format_size(int(statistics.median(received))) if received else "-",
        f"{statistics.median(processes):.0f}" if processes else "-",
        ", ".join(
            f"{key} {statistics.median(run.counted[key] for run in runs):.0f}" for key in runs[0].counted
        ),
    )
