"""Scheduler and workers as Dask's deployment code sees them: things that start and close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from distributed import Status
from distributed.deploy.spec import ProcessInterface

from imagesync.cluster.engine import ClusterEngine
from imagesync.cluster.options import SchedulerOptions, WorkerOptions
from imagesync.cluster.plan import RunningScheduler

InThread = Callable[..., Awaitable[Any]]
"""Runs a function with arguments in a thread, since the engine's answers are waited for."""


class SchedulerContainer(ProcessInterface):
    """The scheduler, in a container.

    Parameters
    ----------
    workers
        How many are expected.
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
        """Start it, and return once it listens."""
        self.running = await self._in_thread(
            self._engine.start_scheduler, self._options, workers=self._workers
        )
        self.address = self.running.address
        await super().start()

    @property
    def container(self) -> str:
        """Return its container's ID; empty where it hasn't started."""
        return "" if self.running is None else self.running.container

    def forget(self) -> None:
        """Count as closed: its container has been removed, or is left to itself."""
        if self.running is not None and self.running.lifeline is not None:
            self.running.lifeline.close()
        self.status = Status.closed


class WorkerContainer(ProcessInterface):
    """A worker, in a container.

    Parameters
    ----------
    scheduler
        Its address for clients; workers find it by its name in their network.
    nthreads, memory_limit
        As in *options*, where Dask's own code looks for them when it scales by cores or memory.
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
        """Start it; it joins the scheduler when it has imported all it needs."""
        self.container = await self._in_thread(self._engine.start_worker, self.name, self._options)
        await super().start()

    async def close(self) -> None:
        """Remove it."""
        self.status = Status.closing
        if self.container:
            await self._in_thread(self._engine.remove, self.container)
        await super().close()

    def forget(self) -> None:
        """Count as closed: its container has been removed, or is left to itself."""
        self.status = Status.closed
