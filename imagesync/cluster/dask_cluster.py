"""The private parts of Dask's ``SpecCluster`` that clusters in containers need, under names of their own.

``tests/integration/test_dask_contract.py`` tries each of them in the oldest and the newest release of Dask.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any

from distributed import Client, Status
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster


class DaskCluster(SpecCluster):
    """A ``SpecCluster`` with methods to override and to call instead of its private ones.

    Unlike ``SpecCluster`` it keeps the results of workers that are retired, and does nothing about workers
    that are lost.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  SpecCluster has no types
        self._closing: asyncio.Future[None] | None = None
        super().__init__(*args, **options)

    @property
    def status(self) -> Status:
        """Status of the cluster; ``closing`` as soon as the scheduler has hung up on a client.

        Clients look at it when their connections end, before the engine reports the scheduler's end. To a
        cluster that is closing they don't try to connect again, which would be in vain.
        """
        lost = self._own_status == Status.running and _has_lost_a_client(self)
        return Status.closing if lost else self._own_status

    @status.setter
    def status(self, status: Status) -> None:
        self._own_status = status

    async def _bring_up(self) -> None:
        """Start scheduler and workers, then :meth:`_connect`; called again by each ``await cluster``."""
        await self._connect()

    async def _connect(self) -> None:
        """Connect to the scheduler, and subscribe to news of its workers."""
        await super()._start()

    async def _take_down(self) -> None:
        """End scheduler and workers, then :meth:`_disconnect`; called by each ``close()``."""
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Close the connection to the scheduler, and leave the rest as it is."""
        self.shutdown_scheduler = False
        # SpecCluster waits for one that is closing.
        self.status = Status.failed if self._was_started else Status.created
        await super()._close()

    def _on_joined(self, identity: Mapping[str, Any]) -> None:
        """Take note of a worker that has joined, by the scheduler's information on it."""

    def _on_left(self, identity: Mapping[str, Any]) -> None:
        """Take note of a worker that is no longer connected to the scheduler."""

    def _on_retiring(self, names: Iterable[Any]) -> None:
        """Take note of the workers that are about to end, since the specification hasn't got them."""

    def _on_hung_up(self) -> None:
        """Take note that the connection to the scheduler has ended."""

    def _on_fitted(self) -> None:
        """Take note that the cluster has the workers of its specification."""

    def _fit(self) -> asyncio.Future[None]:
        """Start the workers that the specification has and the cluster hasn't, and end the others."""
        fitting: asyncio.Future[None] = self._correct_state()
        return fitting

    async def _await_fitting(self, timeout: float) -> None:
        """Wait until no workers are being started or ended, or *timeout* seconds."""
        if self._was_started:
            # Whoever holds the lock may be waiting for a scheduler that no longer answers.
            with suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._lock.acquire(), timeout)
                self._lock.release()

    @property
    def _was_started(self) -> bool:
        return hasattr(self, "_lock")

    @property
    def _all_workers(self) -> list[Any]:
        """Every worker that was made, also those that have ended."""
        return list(self._created)

    def _add_worker(self, name: Any, worker: Any) -> None:  # noqa: ANN401
        """Add a worker that this class doesn't start."""
        self.workers[name] = worker
        worker._cluster = weakref.ref(self)
        self._created.add(worker)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin work that is awaited when the cluster closes."""
        self._futures.add(asyncio.ensure_future(work))

    async def _await_background(self) -> None:
        """Wait for that work; what was refused doesn't matter any more."""
        await asyncio.gather(*self._futures, return_exceptions=True)
        self._futures.clear()

    def _stop_adapting(self) -> None:
        if self._adaptive is not None:
            self._adaptive.stop()

    def _call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401
        """Call a function on the event loop, from any thread.

        Raises
        ------
        RuntimeError
            The loop is closed.
        """
        self._loop_runner.loop.add_callback(callback, *arguments)

    def _stop_loop(self) -> None:
        self._loop_runner.stop()

    async def _start(self) -> None:
        await self._bring_up()

    async def _close(self) -> None:
        await self._take_down()

    async def _correct_state_internal(self) -> None:
        async with self._lock:
            try:
                # Again, since the specification may have changed meanwhile.
                while retiring := set(self.workers) - set(self.worker_spec):
                    await self._retire(retiring)
            finally:
                # The next change begins anew, also if this one has failed.
                self._correct_state_waiting = None
        await super()._correct_state_internal()
        self._on_fitted()

    async def _retire(self, names: Collection[Any]) -> None:
        """End workers, even if the specification has workers of these names again before they have ended."""
        self._on_retiring(names)
        if self.scheduler_comm is not None and self._closing is None:
            # SpecCluster passes names as addresses, which retires no worker: results would be lost.
            await self.scheduler_comm.retire_workers(names=list(names))
        # Those that have already ended may be gone from the cluster.
        retired = [self.workers.pop(name) for name in names if name in self.workers]
        await asyncio.gather(*(worker.close() for worker in retired))

    def _update_worker_status(self, op: str, msg: Any) -> None:  # noqa: ANN401
        if op == "add":
            for identity in msg["workers"].values():
                self._on_joined(identity)
        elif op == "remove":
            identity = self.scheduler_info["workers"].get(msg)
            if identity is None:
                return  # it had left already when all were asked for anew, as `wait_for_workers` does
            self._on_left(identity)
        # Not SpecCluster's, which closes a worker that doesn't come back.
        Cluster._update_worker_status(self, op, msg)

    async def _watch_worker_status(self, comm: Any) -> None:  # noqa: ANN401
        await super()._watch_worker_status(comm)
        self._on_hung_up()


def _has_lost_a_client(cluster: DaskCluster) -> bool:
    """Return ``True`` if a client of the cluster works, and its connection has ended."""
    for client in list(Client._instances):
        comm = getattr(client.scheduler_comm, "comm", None)
        if client.cluster is cluster and client.status == "running" and comm is not None and comm.closed():
            return True
    return False
