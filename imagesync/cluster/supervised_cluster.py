"""A Dask cluster that replaces the workers that it loses, and ends when it loses its scheduler."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, cast

import dask
from dask.utils import parse_timedelta
from distributed import Status

from imagesync.cluster.dask_cluster import DaskCluster
from imagesync.cluster.events import Event
from imagesync.cluster.losses import Losses
from imagesync.cluster.processes import SchedulerContainer, WorkerContainer
from imagesync.core.progress import SilentProgress
from imagesync.core.terminal import is_interactive, make_progress
from imagesync.errors import ClusterError, EngineError
from imagesync.standalone.cluster.node import LOSSES, LOST, WINDOW

logger = logging.getLogger(__name__)

WATCH_INTERVAL = 1.0  # seconds between looks at the workers that are missing
JOIN_TIMEOUT = 60.0  # seconds to wait for the workers before a warning
POLL = 0.05  # seconds between looks at the workers that have joined
EVENT_TIMEOUT = 2.0  # seconds for the engine to report why the scheduler ended


class SupervisedCluster(DaskCluster):
    """A Dask cluster that replaces lost workers.

    Dask closes a worker that hasn't come back within ``distributed.deploy.lost-worker-timeout``, and leaves
    the cluster with one fewer. Here it is replaced, as long as the specification has it. A worker that is
    lost again and again is given up, and the status is ``failed`` then.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  SpecCluster has no types
        self._arrivals: Counter[object] = Counter()
        self._losses = Losses()
        self._early: list[Event] = []
        self._retired: set[str] = set()  # containers
        self._watching: asyncio.Future[None] | None = None
        self.lost = ""
        """Why the cluster ended unexpectedly or failed; empty if it didn't."""
        super().__init__(*args, **options)

    async def _connect(self) -> None:
        await super()._connect()
        for identity in self.scheduler_info["workers"].values():
            self._on_joined(identity)
        self._watching = asyncio.ensure_future(self._watch_missing())
        early, self._early = self._early, []
        for event in early:
            self._handle_event(event)

    def _on_retiring(self, names: Iterable[Any]) -> None:
        self._retired |= {self.workers[name].container for name in names}

    def _on_fitted(self) -> None:
        # Workers are known by now that ended before the engine's other containers had started.
        early, self._early = self._early, []
        for event in early:
            self._handle_worker_event(event)

    def _on_left(self, identity: Mapping[str, Any]) -> None:
        name = identity["name"]
        if (worker := self.workers.get(name)) and not self._losses.is_replaced(identity):
            delay = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
            replacing = partial(self._replace_if_lost, name, worker, self._arrivals[name], delay)
            asyncio.get_running_loop().call_later(delay, lambda: self._in_background(replacing()))

    def _on_joined(self, identity: Mapping[str, Any]) -> None:
        if self._losses.is_replaced(identity):
            return
        name = identity["name"]
        self._arrivals[name] += 1
        for ended, age in self._losses.report(name, identity):
            self._record_loss(name, f"{ended}, and was started again", age=age)

    async def _replace_if_lost(
        self, name: object, worker: WorkerContainer, arrivals: int, delay: float
    ) -> None:
        """Replace a worker that left *delay* seconds ago, unless one of its name has joined since."""

        def is_lost() -> bool:
            # A new worker may have the name of one that was retired.
            return self.workers.get(name) is worker and self._arrivals[name] == arrivals

        if is_lost():
            with suppress(EngineError):
                await worker.read_output()
        if is_lost():
            ended = f"hasn't come back for {delay:g} s, and is replaced"
            self._replace_worker(name, ended, age=delay, counts=worker.has_crashed)

    def _show_arrivals(self) -> None:
        """Wait for the workers, with progress on a terminal or in a notebook."""
        shown = "IPython" in sys.modules or is_interactive(sys.stderr)
        progress = make_progress() if shown else SilentProgress()
        with progress.task("Starting workers", total=len(self.worker_spec), unit="workers") as task:
            self.sync(self._await_workers, JOIN_TIMEOUT, task.advance)

    async def _await_workers(
        self, timeout: float = inf, advance: Callable[[int], None] | None = None
    ) -> None:
        """Wait until all workers have joined, and say so if they haven't after *timeout* seconds.

        Raises
        ------
        ClusterError
            The cluster has failed.
        """
        end, joined = time.monotonic() + timeout, 0
        while True:
            before, joined = joined, len(self.scheduler_info["workers"])
            if advance is not None and joined > before:
                advance(joined - before)
            wanted = len(self.worker_spec)
            if self.lost:
                raise ClusterError(self.lost, hint="Start it again with other options, or in another image.")
            if joined >= wanted:
                return
            if time.monotonic() > end:
                logger.warning(
                    "%d of %d workers have joined after %g s; cluster.logs() shows what the others do.",
                    joined,
                    wanted,
                    timeout,
                )
                return
            await asyncio.sleep(POLL)

    def _replace_worker(
        self,
        name: Any,  # noqa: ANN401
        ended: str,
        *,
        age: float = 0,
        counts: bool = True,
        last: bool = False,
    ) -> None:
        """Remove the container of a lost worker, and start another one.

        Parameters
        ----------
        name
            Name of the worker.
        ended
            How it was lost, after its name.
        age, counts
            As for :meth:`Losses.add`.
        last
            Whether it has been lost too often already.
        """
        if self._closing is not None:
            return
        worker = self.workers.pop(name)
        self._losses.replace(name)
        self._in_background(worker.close())
        if name not in self.worker_spec:
            return  # it was to go
        if self._record_loss(name, ended, age=age, counts=counts) or last:
            self._give_up(name, worker.last_output)
        else:
            self._fit().add_done_callback(self._after_replacement)

    def _record_loss(self, name: Hashable, ended: str, *, age: float = 0, counts: bool = True) -> bool:
        """Log the loss of a worker, and return ``True`` if it has been lost too often."""
        too_often = self._losses.add(name, ended, age=age, counts=counts)
        logger.warning("%s", self._losses.lines[-1])
        return too_often

    def _after_replacement(self, replacement: asyncio.Future[None]) -> None:
        """Try again what the engine refused."""
        if replacement.cancelled() or (error := replacement.exception()) is None or self._closing is not None:
            return
        for name, worker in list(self.workers.items()):
            if worker.status == Status.created:
                self._replace_worker(name, f"can't be started: {error}")

    def _give_up(self, name: object, output: str) -> None:
        """Mark the cluster as failed, since one of its workers is lost again and again.

        The other workers go on. Without any, the cluster ends, so that nobody waits for results.
        """
        del self.worker_spec[name]
        self.lost = (
            f"Worker {name} was lost {LOSSES} times within {WINDOW:.0f} s, and isn't started again."
            + (f" The end of its log:\n{output}" if output else "")
        )
        logger.error("The cluster %s has failed. %s", self.name, self.lost)
        self._losses.lines.append(self.lost)
        self.status = Status.failed
        if not self.worker_spec:
            self._end()

    def _on_hung_up(self) -> None:
        # Give the engine time to report the cause.
        asyncio.get_running_loop().call_later(EVENT_TIMEOUT, self._on_scheduler_silence)

    def _on_scheduler_silence(self) -> None:
        if self._closing is None and self._own_status in {Status.running, Status.failed}:
            self._mark_lost("The connection to the scheduler has ended.")

    def _on_event(self, event: Event) -> None:
        """Pass an event of the engine from the listener's thread to the event loop."""
        with suppress(RuntimeError):  # the loop is closed, and so is the cluster
            self._call_soon(self._handle_event, event)

    def _handle_event(self, event: Event) -> None:
        if self._closing is not None:
            return
        if self._own_status not in {Status.running, Status.failed}:
            self._early.append(event)
            return
        scheduler = cast("SchedulerContainer", self.scheduler).container
        if event.action == "destroy":
            self._mark_lost("The cluster's network was removed.")
        elif event.container == scheduler and event.action == "die":
            self._mark_lost(f"The scheduler's container ended with {event.exit_code}.")
        elif event.container == scheduler:
            self._mark_lost("The scheduler's container was disconnected from the cluster's network.")
        elif not self._handle_worker_event(event) and event.action == "die":
            self._early.append(event)  # of a worker that is being started

    def _handle_worker_event(self, event: Event) -> bool:
        """Replace the worker whose container ended or was disconnected; return ``False`` if there is none."""
        for name, worker in list(self.workers.items()):
            if worker.container != event.container or worker.status != Status.running:
                continue
            if event.action == "die" and event.exit_code == 0:
                # It was retired; by a client, if not here. Here its name may be that of a new one already.
                if event.container not in self._retired:
                    self.worker_spec.pop(name, None)
                del self.workers[name]
                self._in_background(worker.close())
                return True
            if event.action == "die":
                ended = f"is replaced, since its container ended with {event.exit_code}"
            else:
                ended = "is replaced, since its container was disconnected from the cluster's network"
            self._replace_worker(name, ended, last=event.exit_code == LOST)
            return True
        return False

    async def _watch_missing(self) -> None:
        """Read the logs of workers that aren't connected: a container takes its log along when it ends."""
        missing: set[Any] = set()
        while self._closing is None:
            await asyncio.sleep(WATCH_INTERVAL)
            before, missing = missing, {name for name in self.workers if name not in self.observed}
            for name in before & missing:
                if (worker := self.workers.get(name)) is not None:
                    with suppress(EngineError):
                        await worker.read_output()

    def _mark_lost(self, reason: str) -> None:
        self.lost = reason
        logger.error("The cluster %s is lost. %s", self.name, reason)
        self._end()

    def _end(self) -> None:
        """Remove everything in the background."""
        raise NotImplementedError
