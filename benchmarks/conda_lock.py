"""``python -m benchmarks.conda_lock``: what it costs to lock a conda environment.

- On the same platform: ``imagesync lock`` and ``imagesync scan`` in turns, whole processes, of an
  environment with 150 conda packages and 30 from pip. What the index has of these versions is remembered.
- For another platform: 150 conda packages of a macOS environment, a quarter of whose versions aren't there
  for Linux, from a channel of 120,000 packages whose index is in the cache. A process of py-rattler's is
  started each time.

Needs a container engine with the base image, and an index. No conda channel: both are made here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.scripts import run_script
from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.lock.conda.channels import Channels
from imagesync.lock.conda.solve import solve_platform
from imagesync.lock.conda.solver import virtual_packages
from imagesync.lock.lock import Target
from imagesync.plan.plan import PlannedConda
from imagesync.scan.environment import CondaRecord
from imagesync.settings.model import Settings
from imagesync.store.store import Store
from tests.channels.channel import ensure_channel, make_channel
from tests.channels.doubles import pure
from tests.channels.environments import make_conda_environment

LOCK_GOAL, SOLVE_GOAL = 1.3, 3.0
_SPECS = ("python", "numpy", "pandas", "dask", "pip", "anvil", "compass", "orchard-suite", "quill", "trellis")
_ORCHIDS = 105
_PIP = (
    "anyio attrs cachetools cattrs certifi charset-normalizer decorator distlib filelock h11 "
    "httpcore httpx humanize idna iniconfig markdown-it-py mdurl more-itertools platformdirs pluggy "
    "pygments pytest requests rich sniffio tabulate tomli tomlkit typing-extensions virtualenv wrapt"
)
# Names and versions of the large channel: about what conda-forge has for one platform.
_NAMES, _VERSIONS, _WANTED = 6000, 10, 150


def main() -> int:
    """Measure, print two lines, and return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conda_lock", description=__doc__)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--base", default=os.environ.get("IMAGESYNC_BASE", Settings().base))
    arguments = parser.parse_args()
    work = Path(".work/bench/conda").absolute()
    work.mkdir(parents=True, exist_ok=True)
    good = [_measure_lock(work, arguments.base, arguments.turns), _measure_solve(work, arguments.turns)]
    return 0 if all(good) else 1


def _measure_lock(work: Path, base: str, turns: int) -> bool:
    prefix = _environment(work)
    environ = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
        "CONDA_PREFIX": str(prefix),
        "IMAGESYNC_CACHE_DIR": str(work / "store"),
        "VIRTUAL_ENV": "",
    }
    commands = {"scan": ("scan",), "lock": ("lock", "--base", base)}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(turns + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "imagesync", *command, "--format", "json"],
                cwd=work,
                env=environ,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if turn:  # the first one fills the caches
                seconds[name].append(time.perf_counter() - start)
    ratios = [lock / scan for lock, scan in zip(seconds["lock"], seconds["scan"], strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"lock {statistics.median(seconds['lock']):.2f} s, scan {statistics.median(seconds['scan']):.2f} s: "
        f"ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}; goal: {LOCK_GOAL:g})"
    )
    return ratio <= LOCK_GOAL


def _environment(work: Path) -> Path:
    prefix = work / "env"
    if not (prefix / "conda-meta").is_dir():
        orchids = [f"orchid-{number:03}" for number in range(_ORCHIDS)]
        more = make_channel(work / "channel", [pure(name, "1.2.3", depends=("toolz",)) for name in orchids])
        make_conda_environment([ensure_channel(), more], [*_SPECS, *orchids], prefix, pip=_PIP.split())
    return prefix


def _measure_solve(work: Path, turns: int) -> bool:
    channel = _large_channel(work / "large")
    planned = list(_planned(channel))
    seconds = []
    for turn in range(turns + 1):
        solver = Channels(
            (channel.as_uri(),),
            platform=LINUX_AMD64,
            prefix=work,
            environ={"PATH": os.defpath, "HOME": str(work)},
            store=Store(work / "store"),
            progress=SilentProgress(),
        )
        start = time.perf_counter()
        solved = solve_platform(
            planned,
            local_subdir="osx-arm64",
            python="3.11",
            solver=solver,
            virtual_packages=virtual_packages(Target(LINUX_AMD64, "3.11.7", (2, 36))),
        )
        if turn:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(
        f"solve of {len(planned)} packages of {2 * _NAMES * _VERSIONS}, {len(solved.deviations)} deviations: "
        f"{median:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}; goal: {SOLVE_GOAL:g} s)"
    )
    return median <= SOLVE_GOAL


def _large_channel(folder: Path) -> Path:
    if not (folder / "noarch" / "repodata.json").is_file():
        source = random.Random(1)
        for subdir, prefix in (("linux-64", "lin"), ("noarch", "any")):
            entries = {entry.pop("fn"): entry for entry in _entries(subdir, prefix, source)}
            (folder / subdir).mkdir(parents=True, exist_ok=True)
            document = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": entries}
            (folder / subdir / "repodata.json").write_text(json.dumps(document), "utf-8")
    return folder


def _entries(subdir: str, prefix: str, source: random.Random) -> Iterator[dict[str, Any]]:
    if subdir == "linux-64":
        for version in ("3.10.13", "3.11.7", "3.12.1"):
            yield _entry("python", version, subdir, [])
    for number in range(_NAMES):
        # Only on names before it, so that everything can be had together; half of them need nothing.
        depends = [
            f"{prefix}-{other:05} >=1.0"
            for other in source.sample(range(number), k=min(number, source.randrange(2)))
        ]
        for minor in range(_VERSIONS):
            # Of the odd names Linux lacks the version that the Mac has.
            if number % 2 and minor == 5:
                continue
            yield _entry(f"{prefix}-{number:05}", f"1.{minor}.0", subdir, ["python >=3.9", *depends])


def _entry(name: str, version: str, subdir: str, depends: list[str]) -> dict[str, Any]:
    filename = f"{name}-{version}-h0_0.conda"
    digest = hashlib.sha256(filename.encode()).hexdigest()
    known: dict[str, Any] = {
        "fn": filename,
        "name": name,
        "version": version,
        "build": "h0_0",
        "build_number": 0,
    }
    known |= {"depends": depends, "subdir": subdir, "sha256": digest, "md5": digest[:32], "size": 1000}
    return known | ({"noarch": "python"} if subdir == "noarch" else {})


def _planned(channel: Path) -> Iterator[PlannedConda]:
    source = random.Random(2)
    python = CondaRecord("python", "3.11.7", "h0_0", 0, channel.as_uri(), "osx-arm64", "", "")
    yield PlannedConda("python", "3.11.7", "h0_0", Level.CRITICAL, "==3.11.7", "", record=python)
    for prefix, level, specifier in (("lin", Level.EXACT, "==1.5.0"), ("any", Level.COMPATIBLE, ">=1.5.0")):
        for number in source.sample(range(_NAMES), k=_WANTED // 2):
            record = replace(python, name=f"{prefix}-{number:05}", version="1.5.0")
            yield PlannedConda(record.name, "1.5.0", "h0_0", level, specifier, "", record=record)


if __name__ == "__main__":
    run_script(main)
