"""Workers that a cluster loses: they come back, unless one of them is lost again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from operator import add

import dask
import docker
import pytest
from distributed import Client
from distributed.client import FutureCancelledError

import imagesync
from tests.integration.dask_project import DaskProject
from tests.processes import wait_until

pytestmark = [
    pytest.mark.engine,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]

SEED = 19
SECONDS = float(os.environ.get("IMAGESYNC_KILL_SECONDS", "6"))
"""How long workers are killed; two minutes in ``make kills``."""
COUNT = 4
# Two losses of a worker in 60 s are forgiven.
FORGIVEN, WINDOW = 2, 62.0
PAUSE = min(SECONDS / 5, WINDOW / FORGIVEN / COUNT)  # seconds, about


@pytest.fixture
def load() -> Iterator[None]:
    """Keep all CPUs of this machine busy that aren't: other parts of the suite count, too."""
    idle = (os.cpu_count() or 1) - int(os.getloadavg()[0])
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(idle)]
    yield
    for process in busy:
        process.kill()
        process.wait()


def test_all_workers_come_back_that_are_killed_at_random_on_a_busy_machine(
    dask_project: DaskProject, engine: docker.DockerClient, load: None, caplog: pytest.LogCaptureFixture
) -> None:
    def grow(number: int) -> int:
        time.sleep(0.1)
        return number * number

    chance = random.Random(SEED)
    kills: dict[int, list[float]] = {name: [] for name in range(COUNT)}
    with (
        # Of a container that takes its time.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "2s"}),
        imagesync.DockerCluster(
            dask_project.reference, n_workers=COUNT, nthreads=1, memory_limit="400MiB", check=False
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        # While workers are killed: what they had computed is computed again.
        numbers = range(int(6 * SECONDS))
        grown = client.map(grow, numbers)
        total = client.submit(sum, client.map(add, grown[:-1], grown[1:]))
        end = time.monotonic() + SECONDS
        while (now := time.monotonic()) < end:
            free = [
                name for name, times in kills.items() if sum(now - lost < WINDOW for lost in times) < FORGIVEN
            ]
            if free and kill(cluster, engine, name := chance.choice(free), chance.random() < 0.5):
                kills[name].append(time.monotonic())
            time.sleep(PAUSE * chance.uniform(0.5, 1.5))
        assert total.result(timeout=SECONDS + 120) == sum(
            number**2 + (number + 1) ** 2 for number in numbers[:-1]
        )
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == COUNT)
        assert set(cluster.workers) == set(cluster.worker_spec) == set(range(COUNT))
        assert cluster.status.name == "running"
        lines = cluster.logs()["cluster"].splitlines()
        for name, times in kills.items():
            assert len([line for line in lines if line.startswith(f"Worker {name} ")]) >= len(times)
        assert all(line in caplog.text for line in lines)
    print(
        f"{sum(map(len, kills.values()))} kills in {SECONDS:g} s, {len(lines)} losses, {len(numbers)} tasks"
    )


def kill(cluster: imagesync.DockerCluster, engine: docker.DockerClient, name: int, whole: bool) -> bool:
    """Kill a worker's process, or its *whole* container; return ``False`` if it isn't there."""
    worker = cluster.workers.get(name)
    if worker is None or name not in cluster.observed:
        return False
    try:
        container = engine.containers.get(worker.container)
        if whole:
            container.kill()
        else:
            child = container.top(ps_args="-o pid,ppid")["Processes"][-1][0]
            os.kill(int(child), signal.SIGKILL)
    except docker.errors.APIError:
        return False
    return True


def test_a_worker_that_is_lost_three_times_within_a_minute_is_given_up(dask_project: DaskProject) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        imagesync.DockerCluster(
            dask_project.reference, n_workers=1, nthreads=1, memory_limit="400MiB", check=False
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        future = client.submit(die)
        with pytest.raises(FutureCancelledError):
            future.result(timeout=60)
        wait_until(lambda: cluster.status.name == "failed")
        assert "Worker 0 was lost 3 times within 60 s, and isn't started again." in cluster.lost
        assert "imagesync: the worker was ended by signal 9: 3 losses" in cluster.lost
        assert cluster.worker_spec == {}
    assert cluster.status.name == "closed"


def test_a_worker_without_memory_says_so(dask_project: DaskProject) -> None:
    def fill() -> int:
        return len(bytes(10**6) * 2000)

    with (
        imagesync.DockerCluster(
            dask_project.reference,
            n_workers=2,
            nthreads=1,
            memory_limit="300MiB",
            check=False,
            config={"distributed.scheduler.allowed-failures": 0},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        with pytest.raises(Exception, match="fill"):
            client.submit(fill).result(timeout=60)
        cluster.wait_for_workers(2, timeout=60)
        wait_until(lambda: "cluster" in cluster.logs())
        assert "the container's memory was exhausted" in cluster.logs()["cluster"]
