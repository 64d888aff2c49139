"""A cluster in this process that goes through all that ``DaskCluster`` uses of Dask's private parts.

It runs in an environment with Dask alone; the argument is the folder of ``dask_cluster.py``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from distributed import Client, Scheduler, Status, Worker
from distributed.deploy.spec import ProcessInterface

sys.path += [sys.argv[1], str(Path(sys.argv[1]).parent / "standalone" / "cluster")]

from dask_cluster import DaskCluster  # type: ignore[import-not-found]
from scheduler import keep_groups, tell_of_tasks_without_worker  # type: ignore[import-not-found]

LOCAL = {"host": "127.0.0.1", "dashboard_address": ":0"}
noted: list[str] = []


class LocalCluster(DaskCluster):  # type: ignore[misc]
    """A cluster of this process that notes what it is told."""

    async def _bring_up(self) -> None:
        await self._connect()
        noted.append("connected")

    async def _take_down(self) -> None:
        self._stop_adapting()
        await self._await_fitting(5)
        self.worker_spec, self.workers = {}, {}
        await self._await_background()
        await self._disconnect()
        noted.append("disconnected")

    def _on_joined(self, identity: Mapping[str, Any]) -> None:
        noted.append(f"joined {identity['name']}")

    def _on_left(self, identity: Mapping[str, Any]) -> None:
        noted.append(f"left {identity['name']}")

    def _on_retiring(self, names: Iterable[Any]) -> None:
        noted.extend(f"retiring {name}" for name in names)

    def _on_hung_up(self) -> None:
        noted.append("hung up")

    def _on_fitted(self) -> None:
        noted.append("fitted")


class Container(ProcessInterface):
    """A process that is elsewhere."""

    async def start(self) -> None:
        self.address = "tls://container"
        await super().start()


async def until(condition: Callable[[], bool]) -> None:
    """Wait on the event loop."""
    while not condition():
        await asyncio.sleep(0.01)


async def keep_group(made: LocalCluster, worker: Mapping[str, Any]) -> None:
    """Let the scheduler keep the worker of a group, which comes and goes."""
    keep_groups(made.scheduler, ["big"])
    made.worker_spec["big-0"] = worker
    await made._fit()
    await until(lambda: "joined big-0" in noted)
    assert list(await made.scheduler_comm.workers_to_close(target=0, attribute="name")) == [0]
    del made.worker_spec["big-0"]
    await made._fit()
    await until(lambda: "left big-0" in noted)


async def go() -> None:
    """Go through the cluster's life."""
    worker = {"cls": Worker, "options": {"nthreads": 1, **LOCAL}}
    scheduler = {"cls": Scheduler, "options": {"port": 0, **LOCAL}}
    async with LocalCluster(
        workers={0: worker}, scheduler=scheduler, worker=worker, asynchronous=True
    ) as made:
        assert made.status == Status.running
        assert noted.count("connected") == 1
        await until(lambda: "joined 0" in noted)
        made._call_soon(noted.append, "called")
        await until(lambda: "called" in noted)

        made.worker_spec[1] = worker
        await made._fit()
        await until(lambda: "joined 1" in noted)
        async with Client(made, asynchronous=True) as client:
            (kept,) = await client.scatter([5], workers=[made.workers[1].address])
            del made.worker_spec[1]
            await made._fit()
            assert "retiring 1" in noted
            await until(lambda: "left 1" in noted)
            assert await kept.result() == 5, "results of a retired worker are kept"
            assert noted.count("fitted") >= 3

            tell_of_tasks_without_worker(made.scheduler)
            assert await made.scheduler_comm.has_tasks_without_worker() is False
            without = client.submit(sum, [1, 2], resources={"missing": 1})
            await until(lambda: bool(made.scheduler.unrunnable))
            assert await made.scheduler_comm.has_tasks_without_worker() is True
            without.release()

            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            made._in_background(asyncio.wait_for(ended, 60))
            added = await Container(name="added")
            made._add_worker("added", added)
            assert added in made._all_workers
            assert len(made._all_workers) == 3
            await added.close()
            del made.workers["added"]
            await keep_group(made, worker)

            await made.workers[0].close()
            await until(lambda: "left 0" in noted)
            assert set(made.workers) == {0}, "it is left to us what becomes of it"
            await made.scheduler.close()
            await until(lambda: "hung up" in noted)
            await until(lambda: client.scheduler_comm is None or client.scheduler_comm.comm.closed())
            assert made.status in {Status.closing, Status.running}
        asyncio.get_running_loop().call_later(0.1, ended.set_result, None)
    assert ended.done(), "what goes on in the background is awaited"
    assert noted.count("disconnected") == 1
    assert made.status == Status.closed


asyncio.run(asyncio.wait_for(go(), 60))
