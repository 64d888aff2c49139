"""Options of groups of workers, as a user gives them, and adapting beside groups."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from distributed import Client, Scheduler, Worker

from imagesync.cluster.container_options import Machine, WorkerOptions
from imagesync.cluster.engine_options import make_engine_options
from imagesync.cluster.worker_groups import GroupedCluster, make_groups
from imagesync.errors import UsageError
from imagesync.standalone.cluster.scheduler import keep_groups, tell_of_tasks_without_worker
from tests.host_platform import NEEDS_OWN_SYSTEM

MACHINE = Machine(cpus=4, memory=8 * 2**30)


def group(**options: Any) -> tuple[int, WorkerOptions]:
    worker = WorkerOptions(environment={"A": "1"}, resources={"disk": 1})
    return make_groups({"big": options}, machine=MACHINE, worker=worker)["big"]


@pytest.mark.parametrize("name", ["a b", "a/b", "../a", "", "12", "-a", "a" * 41, 1])
def test_name_of_a_group_is_valid_in_names_of_containers(name: Any) -> None:
    with pytest.raises(UsageError, match="can't be called"):
        make_groups({name: {}}, machine=MACHINE, worker=WorkerOptions())


@pytest.mark.parametrize(
    "option", ["network_mode", "auto_remove", "mounts", "port_bindings", "restart_policy", "nonsense"]
)
def test_no_group_has_an_option_that_is_the_clusters_own_or_unknown(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        group(docker={option: []})
    with pytest.raises(UsageError, match=option):
        make_engine_options(docker={option: []})


def test_group_adds_to_the_options_of_the_other_workers() -> None:
    count, worker = group(environment={"B": "2"}, docker={"cap_add": ["SYS_PTRACE"]}, memory_limit="1GiB")
    assert (count, worker.memory_limit) == (1, 2**30)
    assert worker.environment == {"A": "1", "B": "2"}
    assert worker.resources == {"disk": 1}
    assert worker.engine.docker == {"cap_add": ["SYS_PTRACE"]}


def test_none_is_as_good_as_an_option_that_is_left_out() -> None:
    _, worker = group(environment=None, mounts=None, resources=None)
    assert (worker.environment, worker.mounts, worker.resources) == ({"A": "1"}, (), {"disk": 1})


def test_unknown_option_of_a_group_is_named() -> None:
    with pytest.raises(UsageError, match="threads_of_each"):
        group(threads_of_each=2)


class LocalCluster(GroupedCluster):
    """A cluster with a group whose scheduler and workers are of this process."""

    async def _bring_up(self) -> None:
        await self._connect()
        tell_of_tasks_without_worker(self.scheduler)
        keep_groups(self.scheduler, self._groups)

    async def _take_down(self) -> None:
        self._stop_adapting()
        workers, self.worker_spec, self.workers = self.workers, {}, {}
        await asyncio.gather(*(worker.close() for worker in workers.values()))
        await self._disconnect()


computing = threading.Event()


def compute() -> bool:
    return computing.wait(60)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@NEEDS_OWN_SYSTEM
def test_workers_that_compute_stay_while_those_of_a_group_are_idle() -> None:
    address = {"host": "127.0.0.1", "dashboard_address": ":0"}
    worker = {"cls": Worker, "options": {"nthreads": 1, "resources": {"leaf": 1}, **address}}
    member = {"cls": Worker, "options": {"nthreads": 1, **address}}

    async def go() -> None:
        async with LocalCluster(
            workers={0: worker, 1: worker, "big-0": member, "big-1": member},
            worker=worker,
            scheduler={"cls": Scheduler, "options": {"port": 0, **address}},
            groups={"big": member},
            asynchronous=True,
        ) as cluster:
            adaptive = cluster.adapt(interval="1h")
            await until(lambda: len(cluster.observed) == 4)
            async with Client(cluster, asynchronous=True) as client:
                futures = [client.submit(compute, resources={"leaf": 1}, pure=False) for _ in range(2)]
                await until(
                    lambda: sum(bool(each.processing) for each in cluster.scheduler.workers.values()) == 2
                )
                assert await adaptive.target() == 2
                computing.set()
                assert await client.gather(futures) == [True, True]
            await until(lambda: not cluster.scheduler.tasks)
            assert await adaptive.target() == 0

    asyncio.run(asyncio.wait_for(go(), 60))


@NEEDS_OWN_SYSTEM
@pytest.mark.parametrize("limit_of_group", [0, 2**40])
def test_results_keep_as_many_workers_as_can_hold_them_whatever_a_group_has(limit_of_group: int) -> None:
    address = {"nthreads": 1, "host": "127.0.0.1", "dashboard_address": ":0"}
    worker = {"cls": Worker, "options": {**address, "memory_limit": 2**30}}
    member = {"cls": Worker, "options": {**address, "memory_limit": limit_of_group}}
    held = b"x" * 1000

    async def go() -> None:
        async with LocalCluster(
            workers={0: worker, 1: worker, "big-0": member, "big-1": member},
            worker=worker,
            scheduler={
                "cls": Scheduler,
                "options": {"port": 0, "host": "127.0.0.1", "dashboard_address": ":0"},
            },
            groups={"big": member},
            asynchronous=True,
        ) as cluster:
            adaptive = cluster.adapt(interval="1h")
            await until(lambda: len(cluster.scheduler.workers) == 4)
            await until(lambda: len(cluster.observed) == 4)
            async with Client(cluster, asynchronous=True) as client:

                async def target(*names: int | str) -> int:
                    kept = [
                        await client.scatter(held, workers=[cluster.workers[name].address], hash=False)
                        for name in names
                    ]
                    found = await adaptive.target()
                    if found == 1:
                        assert await adaptive.workers_to_close(1) == [1]
                    del kept
                    await until(lambda: not cluster.scheduler.tasks)
                    return found

                assert await target() == 0
                assert await target("big-0") == 0
                assert await target(0) == 1
                assert await target(0, "big-1") == 1
                assert await target(0, "big-0", "big-1", "big-1") == 1

    asyncio.run(asyncio.wait_for(go(), 60))
