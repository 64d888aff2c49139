"""Scheduler and worker containers as processes of a Dask ``SpecCluster``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Status
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import ProcessInterface, SpecCluster

from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import RunningScheduler
from imagesync.cluster.container_options import SchedulerOptions, WorkerOptions

InThread = Callable[..., Awaitable[Any]]
"""Runs a function with arguments in a thread, since calls to the engine block."""


class SchedulerContainer(ProcessInterface):
    """The scheduler in a container.

    Parameters
    ----------
    engine
        Creates and removes the container.
    in_thread
        Runs calls to the engine.
    options
        Options of the scheduler.
    workers
        Number of expected workers.
    """

    def __init__(
        self, engine: ClusterEngine, in_thread: InThread, options: SchedulerOptions, *, workers: int
    ) -> None:
        super().__init__()
        self._engine = engine
        self._in_thread = in_thread
        self._options = options
        self._workers = workers
        self.running: RunningScheduler | None = None

    async def start(self) -> None:
        """Start the scheduler, and wait until it listens."""
        self.running = await self._in_thread(
            self._engine.start_scheduler, self._options, workers=self._workers
        )
        self.address = self.running.address
        await super().start()

    @property
    def container(self) -> str:
        """ID of the container; empty before it is started."""
        return "" if self.running is None else self.running.container

    def mark_closed(self) -> None:
        """Mark the process as closed, without a request to the engine."""
        if self.running is not None and self.running.lifeline is not None:
            self.running.lifeline.close()
        self.status = Status.closed


class WorkerContainer(ProcessInterface):
    """A worker in a container.

    Parameters
    ----------
    scheduler
        Address of the scheduler for clients; workers use its name in their network.
    engine, in_thread, options
        As for :class:`SchedulerContainer`.
    name
        Name of the worker.
    nthreads, memory_limit
        As in *options*. Dask reads them in the specification to scale by cores or memory.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        engine: ClusterEngine,
        in_thread: InThread,
        options: WorkerOptions,
        name: str | int,
        nthreads: int,
        memory_limit: int,
    ) -> None:
        super().__init__(scheduler, name)
        self._engine = engine
        self._in_thread = in_thread
        self._options = options
        self.name = name
        self.container = ""

    async def start(self) -> None:
        """Start the worker without waiting for it to join the scheduler."""
        self.container = await self._in_thread(self._engine.start_worker, self.name, self._options)
        await super().start()

    async def close(self) -> None:
        """Remove the worker's container."""
        self.status = Status.closing
        if self.container:
            await self._in_thread(self._engine.remove, self.container)
        await super().close()

    def mark_closed(self) -> None:
        """Mark the process as closed, without a request to the engine."""
        self.status = Status.closed


class RestartTolerantCluster(SpecCluster):
    """A ``SpecCluster`` that keeps restarted workers, and the results of retired ones.

    It closes a lost worker only if no worker of the same name has joined since. Dask checks only whether the
    worker is connected when ``distributed.deploy.lost-worker-timeout`` ends, and would close a worker that
    has rejoined and is restarting once more.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  SpecCluster has no types
        self._arrivals: Counter[object] = Counter()
        self._closing: asyncio.Future[None] | None = None
        super().__init__(*args, **options)

    async def _correct_state_internal(self) -> None:
        retiring = set(self.workers) - set(self.worker_spec)
        if retiring and self.scheduler_comm is not None and self._closing is None:
            # SpecCluster passes names as addresses, which retires no worker: results would be lost.
            await self.scheduler_comm.retire_workers(names=list(retiring))
        await super()._correct_state_internal()

    def _update_worker_status(self, op: str, msg: Any) -> None:  # noqa: ANN401
        if op == "add":
            self._arrivals.update(worker["name"] for worker in msg["workers"].values())
        if op != "remove":
            super()._update_worker_status(op, msg)
            return
        name = self.scheduler_info["workers"][msg]["name"]
        arrivals = self._arrivals[name]

        def close_if_lost() -> None:
            if name in self.workers and self._arrivals[name] == arrivals:
                self._futures.add(asyncio.ensure_future(self.workers.pop(name).close()))

        delay = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
        asyncio.get_running_loop().call_later(delay, close_if_lost)
        Cluster._update_worker_status(self, op, msg)
