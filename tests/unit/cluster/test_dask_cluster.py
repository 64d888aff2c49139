"""Workers that are retired while their cluster's specification changes, in a cluster of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from distributed import Client, Scheduler, Status, Worker
from distributed.deploy.spec import ProcessInterface

from imagesync.cluster.dask_cluster import DaskCluster
from tests.host_platform import NEEDS_OWN_SYSTEM

pytestmark = NEEDS_OWN_SYSTEM
ADDRESS = {"host": "127.0.0.1", "dashboard_address": ":0"}
WORKER = {"cls": Worker, "options": {"nthreads": 1, **ADDRESS}}


class LocalCluster(DaskCluster):
    """A cluster whose scheduler and workers are of this process."""

    meanwhile: Callable[[], object] | None = None
    """Called once, while workers are being retired."""

    def _on_retiring(self, names: Iterable[Any]) -> None:
        if self.meanwhile is not None:
            call, self.meanwhile = self.meanwhile, None
            call()

    async def _take_down(self) -> None:
        workers, self.worker_spec, self.workers = self.workers, {}, {}
        await asyncio.gather(*(worker.close() for worker in workers.values()))
        await self._disconnect()


class Stubborn(ProcessInterface):
    """A process that can't be ended, as in an engine that refuses."""

    async def close(self) -> None:
        await super().close()
        raise OSError("refused")


def with_workers(number: int, check: Callable[[LocalCluster], Awaitable[None]]) -> None:
    """Run a check of a cluster with so many workers."""

    async def go() -> None:
        async with LocalCluster(
            workers=dict.fromkeys(range(number), WORKER),
            worker=WORKER,
            scheduler={"cls": Scheduler, "options": {"port": 0, **ADDRESS}},
            asynchronous=True,
        ) as cluster:
            await has(cluster, number)
            await check(cluster)

    asyncio.run(asyncio.wait_for(go(), 60))


async def has(cluster: LocalCluster, number: int) -> None:
    """Wait until the workers of the specification are those of the cluster and of the scheduler."""
    while not set(cluster.worker_spec) == set(cluster.workers) == cluster.observed == set(range(number)):
        await asyncio.sleep(0.01)


def test_worker_that_is_wanted_again_while_it_is_retired_is_replaced() -> None:
    async def check(cluster: LocalCluster) -> None:
        retired = cluster.workers[1]
        cluster.meanwhile = lambda: cluster.scale(2)
        cluster.scale(1)
        while cluster.workers.get(1) in (None, retired):
            await asyncio.sleep(0.01)
        assert retired.status == Status.closed
        await has(cluster, 2)

    with_workers(2, check)


def test_results_stay_when_more_workers_go_while_one_is_retired() -> None:
    async def check(cluster: LocalCluster) -> None:
        async with Client(cluster, asynchronous=True) as client:
            (kept,) = await client.scatter([5], workers=[cluster.workers[1].address])
            cluster.meanwhile = lambda: cluster.scale(1)
            cluster.scale(2)
            await has(cluster, 1)
            assert await kept.result() == 5

    with_workers(3, check)


def test_worker_that_can_not_be_ended_keeps_no_other_from_starting() -> None:
    async def check(cluster: LocalCluster) -> None:
        cluster._add_worker("stubborn", await Stubborn(name="stubborn"))
        with pytest.raises(OSError, match="refused"):
            await cluster._fit()
        cluster.scale(2)
        await has(cluster, 2)

    with_workers(1, check)


def test_news_of_a_worker_that_is_known_to_have_left_is_no_error() -> None:
    async def check(cluster: LocalCluster) -> None:
        (address,) = cluster.scheduler_info["workers"]
        for _ in range(2):
            cluster._update_worker_status("remove", address)
        assert not cluster.scheduler_info["workers"]

    with_workers(1, check)
