"""The figures of clusters: four workers, from the call until all have come, and the end of them."""

from __future__ import annotations

import contextlib
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import uuid4

from benchmarks.measure import run_once
from benchmarks.results import Results

WORKERS = 4
OURS = "DockerCluster"
BY_HAND = "docker run at once"
WITHOUT_NANNY = "docker run at once, --no-nanny"
_PATIENCE = 180  # seconds


def measure_cluster(image: str, size: str, results: Results, *, turns: int) -> None:
    """Start clusters in turns, each with its image present and its client's imports done.

    By hand, it is what one would write: ``docker run`` of a scheduler and four workers, all at once, and a
    client that tries again until it is connected; without TLS, which ours has.
    """
    contenders: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
        OURS: lambda: _ours(image),
        BY_HAND: lambda: _by_hand(image),
        WITHOUT_NANNY: lambda: _by_hand(image, "--no-nanny"),
    }
    with warnings.catch_warnings():
        # The patch level of this process's Python may not be the image's.
        warnings.simplefilter("ignore")
        for turn in range(turns + 1):
            for name, contender in contenders.items():
                cluster = contender()

                def start(cluster: contextlib.AbstractContextManager[None] = cluster) -> dict[str, float]:
                    cluster.__enter__()
                    return {}

                def end(cluster: contextlib.AbstractContextManager[None] = cluster) -> dict[str, float]:
                    cluster.__exit__(None, None, None)
                    return {}

                started, ended = run_once(start), run_once(end)
                print(f"cluster, {name}: {started.seconds:.2f} s, closing {ended.seconds:.2f} s", flush=True)
                if turn:  # the first is to warm up
                    results.add("cluster", size, name, turn - 1, started)
                    results.add("cluster, closing", size, name, turn - 1, replace(ended, memory=None))


@contextlib.contextmanager
def _ours(image: str) -> Iterator[None]:
    import imagesync

    with imagesync.DockerCluster(
        image, n_workers=WORKERS, nthreads=1, memory_limit=0, check=False
    ) as cluster:
        cluster.wait_for_workers(WORKERS, timeout=_PATIENCE)
        yield


@contextlib.contextmanager
def _by_hand(image: str, options: str = "") -> Iterator[None]:
    name = f"imagesync-bench-{uuid4().hex[:6]}"
    docker("network", "create", name)
    # A worker that comes before the name of its scheduler is known ends, and is started again.
    run = ["docker", "run", "--detach", "--restart", "on-failure", "--network", name]
    worker = ["dask", "worker", f"tcp://{name}:8786", "--nthreads", "1", *options.split()]
    commands = [[*run, "--name", name, "--publish", "127.0.0.1::8786", image, "dask", "scheduler"]]
    commands += [[*run, "--name", f"{name}-{number}", image, *worker] for number in range(WORKERS)]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    try:
        _wait(started[0], name)
        yield
    finally:
        for process in started:
            process.wait()
        docker("rm", "--force", name, *(f"{name}-{number}" for number in range(WORKERS)))
        docker("network", "rm", name)


def _wait(scheduler: subprocess.Popen[bytes], name: str) -> None:
    """Try again until connected, and until all workers have come."""
    from distributed import Client

    scheduler.wait()
    port = docker("port", name, "8786").strip()
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            client = Client(f"tcp://{port}", timeout=2, set_as_default=False)
        except OSError:
            continue
        with client:
            client.wait_for_workers(WORKERS, timeout=_PATIENCE)
        return
    raise RuntimeError("the scheduler by hand didn't come")


def docker(*arguments: str) -> str:
    """Return what a Docker command prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout
