"""``python -m benchmarks.sync``: syncs of edits to a running cluster, what they leave behind, and 20 workers.

An editable project's module is edited ten times, and ``cluster.sync()`` brings each edit to four workers: the
time from the edit to the workers' answer, with and without that of the wheel, and then what scheduler and
workers have more of than after the first one: processes, files and memory. Afterwards a cluster of 20 workers
starts. Needs a container engine and the index.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import shutil
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from distributed import Client

import imagesync
from benchmarks.scripts import run_script
from imagesync.session import Session
from tests.environments import make_environment
from tests.integration.dask_project import MODULE, make_project

WORKERS = 4
MANY = 20
BEYOND_WHEEL = 2.0  # seconds from an edit to the answer, at most, beyond building the wheel
GROWTH = 5.0  # MB of a process, at most
_PACKAGES = ("dask", "distributed", "cloudpickle", "tornado", "msgpack")


class Trace(NamedTuple):
    """What a process of the cluster has: processes and files of its container, and its memory."""

    processes: int
    files: int
    memory: float


def trace() -> Trace:
    """Return the trace of this process, which runs in a cluster; memory in MB."""
    import gc

    gc.collect()
    processes = sum(path.name.isdigit() for path in Path("/proc").iterdir())
    files = sum(
        len(names)
        for top in ("/home", "/tmp", "/var/tmp")
        for folder, _, names in os.walk(top)
        if "dask-scratch" not in folder
    )
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Trace(processes, files, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def measure_syncs(session: Session, image: str, project: Path, *, edits: int) -> bool:
    """Bring edits to a cluster, print the figures, and return whether they are good."""
    sys.path.insert(0, str(project))
    sys.dont_write_bytecode = True
    elder = importlib.import_module("elder")
    totals: list[float] = []
    beyond: list[float] = []
    with (
        imagesync.DockerCluster(
            image, n_workers=WORKERS, nthreads=1, check=False, session=session
        ) as cluster,
        Client(cluster) as client,
    ):
        first: dict[str, Trace] = {}
        for number in range(2, edits + 3):
            start = time.perf_counter()
            (project / "elder.py").write_text(MODULE.format(berries=number))
            synced = cluster.sync()
            answers = client.run(elder.pick, 1)
            seconds = time.perf_counter() - start
            assert set(answers.values()) == {number}, answers
            assert not synced.restarted, synced
            if not first:  # it is to warm up, and what later ones leave is compared with it
                first = traces(client)
                continue
            totals.append(seconds)
            beyond.append(seconds - synced.building)
        last = traces(client)
    growths = [
        (now.processes - before.processes, now.files - before.files, now.memory - before.memory)
        for before, now in ((first[member], last[member]) for member in first)
    ]
    processes, files, memory = (max(values) for values in zip(*growths, strict=True))
    total, median, slowest = statistics.median(totals), statistics.median(beyond), max(beyond)
    print(
        f"edit to answer on {WORKERS} workers, {edits} edits: {total:.2f} s, of which beyond"
        f" the wheel {median:.2f} s ({min(beyond):.2f} to {slowest:.2f}), limit {BEYOND_WHEEL:g} s"
    )
    print(
        f"after {edits} further syncs a member has at most {processes} more processes, {files} more files"
        f" and {memory:.1f} MB more (limits 0, 0 and {GROWTH:g} MB)"
    )
    return median <= BEYOND_WHEEL and processes <= 0 and files <= 0 and memory <= GROWTH


def traces(client: Client) -> dict[str, Trace]:
    """Return the trace of the scheduler and of each worker."""
    found: dict[str, Trace] = {"scheduler": client.run_on_scheduler(trace), **client.run(trace)}
    return found


def measure_many(image: str) -> bool:
    """Start many workers, print how long it took, and return whether none was lost."""
    start = time.perf_counter()
    with imagesync.DockerCluster(
        image, n_workers=MANY, nthreads=1, memory_limit=0, cpus=0, check=False
    ) as cluster:
        seconds = time.perf_counter() - start
        joined = len(cluster.scheduler_info["workers"])
        losses = cluster.logs().get("cluster", "").splitlines()
    print(f"{joined} of {MANY} workers after {seconds:.1f} s, {len(losses)} losses")
    print(*losses, sep="\n", end="")
    return joined == MANY and not losses


def main() -> int:
    """Measure, print the figures, and return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync", description=__doc__)
    parser.add_argument("--edits", type=int, default=10)
    parser.add_argument("--base", default=os.environ.get("IMAGESYNC_BASE", ""), help="setting of that name")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment")
    arguments = parser.parse_args()
    os.environ["IMAGESYNC_BASE"] = arguments.base
    warnings.simplefilter("ignore")
    work = Path(".work/bench/sync").absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    project = make_project(work / "project")
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES]
    environment = make_environment(
        work / "env", packages=versions, python=arguments.python, editable=[project]
    )
    os.chdir(work)
    session = imagesync.open_session(python=environment.python, quiet=True)
    image = session.build().reference
    good = measure_syncs(session, image, project, edits=arguments.edits)
    return 0 if measure_many(image) and good else 1


if __name__ == "__main__":
    run_script(main)
