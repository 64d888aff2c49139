"""Scheduler and worker containers as processes of a Dask ``SpecCluster``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from distributed import Status
from distributed.deploy.spec import ProcessInterface

from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import RunningScheduler
from imagesync.cluster.container_options import SchedulerOptions, WorkerOptions
from imagesync.standalone.cluster import node

TAIL = 20
"""Lines of a lost worker's log that are kept."""
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
    running
        A scheduler that runs already, which isn't started then.
    """

    def __init__(
        self,
        engine: ClusterEngine,
        in_thread: InThread,
        options: SchedulerOptions,
        *,
        workers: int,
        running: RunningScheduler | None = None,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._in_thread = in_thread
        self._options = options
        self._workers = workers
        self.running = running

    async def start(self) -> None:
        """Start the scheduler, and wait until it listens."""
        if self.running is None:
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
        """ID of the container; one that runs already isn't started."""
        self.last_output = ""
        """End of the log, read while the worker was missing from the scheduler."""

    async def start(self) -> None:
        """Start the worker without waiting for it to join the scheduler."""
        if not self.container:
            self.container = await self._in_thread(self._engine.start_worker, self.name, self._options)
        await super().start()

    async def close(self) -> None:
        """Remove the worker's container."""
        self.status = Status.closing
        if self.container:
            await self._in_thread(self._engine.remove, self.container)
        await super().close()

    async def read_output(self) -> None:
        """Keep the end of the container's log, which the engine removes with the container."""
        if self.container and (output := await self._in_thread(self._engine.logs, self.container, tail=TAIL)):
            self.last_output = output.rstrip()

    @property
    def has_crashed(self) -> bool:
        """Whether process 1 last reported, in :attr:`last_output`, that the worker had ended by itself."""
        reports = [line for line in self.last_output.splitlines() if line.startswith(node.PREFIX)]
        return bool(reports) and reports[-1] != node.READY

    def mark_closed(self) -> None:
        """Mark the process as closed, without a request to the engine."""
        self.status = Status.closed
