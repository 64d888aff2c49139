"""The part of a Dask cluster in containers that Docker and Swarm share."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from distributed import Status
from distributed.utils import format_dashboard_link

from imagesync.cluster.agreement.check import check_agreement, check_scheduler
from imagesync.cluster.agreement.sync import sync_code
from imagesync.cluster.cleanup import claim_network, read_logs, sweep
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import cluster_image
from imagesync.cluster.connection import make_security, security_to_dict
from imagesync.cluster.container_options import SchedulerOptions, WorkerOptions
from imagesync.cluster.events import Event, EventListener
from imagesync.cluster.processes import RestartTolerantCluster, SchedulerContainer, WorkerContainer
from imagesync.cluster.reaper import Reaper
from imagesync.cluster.resources import THREADS
from imagesync.errors import EngineError, ImagesyncError

if TYPE_CHECKING:
    from distributed import Security

    from imagesync.session import Session

logger = logging.getLogger(__name__)

FAREWELL_TIMEOUT = 1.0  # seconds for the scheduler to tell clients and workers that it closes
SETTLE_TIMEOUT = 5.0  # seconds for pending work when the cluster is closed
EVENT_TIMEOUT = 2.0  # seconds for the engine to report why the scheduler ended


class ContainerCluster(RestartTolerantCluster):
    """Base class of :class:`DockerCluster` and :class:`SwarmCluster`.

    Parameters
    ----------
    engine
        Creates and removes containers; its plan has the cluster's name and owner.
    image, session, security, check, strict
        As for :class:`DockerCluster`.
    scheduler, worker
        Options of the scheduler and of each worker.
    workers
        Initial number of workers.
    asynchronous, options
        Further arguments of ``SpecCluster``.
    """

    def __init__(
        self,
        engine: ClusterEngine,
        *,
        image: str | None,
        session: Session | None,
        security: Security | bool | None,
        check: bool,
        strict: bool,
        scheduler: SchedulerOptions,
        worker: WorkerOptions,
        workers: int,
        asynchronous: bool,
        **options: Any,  # noqa: ANN401  SpecCluster has no types
    ) -> None:
        self._engine = engine
        self._session = session
        self._check, self._strict = check, strict
        self._wanted_image, self._wanted_security = image, security
        self._scheduler_options = scheduler
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=engine.plan.network)
        self._claimed = False
        self._reaper: Reaper | None = None
        self._listener: EventListener | None = None
        self._launching: asyncio.Future[None] | None = None
        self._checking: asyncio.Future[None] | None = None
        self.image = ""
        """Reference of the image that all containers run."""
        self.lost = ""
        """Why the cluster ended unexpectedly; empty if it didn't."""
        worker_spec = {
            "cls": WorkerContainer,
            "options": {
                "engine": engine,
                "in_thread": self._in_thread,
                "options": worker,
                "nthreads": worker.nthreads,
                "memory_limit": worker.memory_limit,
            },
        }
        if not asynchronous:
            # In the main thread, so that an interrupt reaches the build.
            self.image = engine.prepare(cluster_image(image, session, engine.endpoint))
        try:
            super().__init__(
                workers=dict.fromkeys(range(workers), worker_spec),
                worker=worker_spec,
                asynchronous=asynchronous,
                name=engine.plan.name,
                **options,
            )
        except BaseException:
            self._abort()
            raise

    @property
    def dashboard_link(self) -> str:
        """URL of the dashboard, by the template in Dask's configuration; empty if it isn't published."""
        running = getattr(self.scheduler, "running", None)
        if running is None or not running.dashboard:
            return ""
        host, _, port = running.dashboard.rpartition(":")
        return str(format_dashboard_link(host, port))

    def logs(self, *, tail: int | None = None) -> Any:  # noqa: ANN401  awaitable, if asynchronous
        """Return the logs of ``scheduler`` and each ``worker-<name>``, read from the engine.

        Unlike :meth:`get_logs` it works without an answer from them and includes the end of a crashed worker.

        Parameters
        ----------
        tail
            Number of lines of each log; all by default.
        """
        return self.sync(self._in_thread, read_logs, self._engine, tail=tail)

    def check(self, *, strict: bool = False) -> Any:  # noqa: ANN401
        """Compare every package of scheduler and workers with this environment (:func:`imagesync.check`).

        Raises
        ------
        MismatchError
            *strict* is true and a package differs.
        """
        return self.sync(check_agreement, self, strict=strict, session=self._session)

    def sync(
        self,
        func: Callable[..., Any] | None = None,
        *args: Any,  # noqa: ANN401
        restart: bool | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Send local changes since the image was built (:func:`imagesync.sync`).

        With a function, run it on the event loop, as Dask's method of this name does.

        Parameters
        ----------
        func, args, options
            The function and its arguments.
        restart
            As for :func:`imagesync.sync`.
        """
        if func is None:
            return super().sync(sync_code, self, session=self._session, restart=restart)
        return super().sync(func, *args, **options)

    def _in_thread(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> asyncio.Future[Any]:  # noqa: ANN401
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *arguments, **options))

    async def _start(self) -> None:
        try:
            if self.status == Status.created:
                if self._launching is None:
                    self._launching = asyncio.ensure_future(self._launch())
                await self._launching
            await super()._start()
            await check_scheduler(self.scheduler_comm, strict=self._strict)
            await self._begin_check()
        except BaseException as error:
            await self._close()
            # Dask wraps the error that has the message for the user.
            if isinstance(error.__cause__, ImagesyncError):
                raise error.__cause__ from error.__cause__.__cause__
            raise

    async def _launch(self) -> None:
        """Start scheduler and workers concurrently: a worker waits until its scheduler listens."""
        engine, in_thread = self._engine, self._in_thread
        if not self.image:
            found = await in_thread(cluster_image, self._wanted_image, self._session, engine.endpoint)
            self.image = await in_thread(engine.prepare, found)
        securing = in_thread(make_security, self._wanted_security)
        network = await in_thread(claim_network, engine)
        self._claimed = True
        self._reaper = Reaper(engine.plan.name, engine.endpoint)
        sweeping = in_thread(sweep, engine.endpoint)
        self.security = await securing
        engine.plan = replace(engine.plan, image=self.image, security=security_to_dict(self.security))
        self._listener = engine.listen(network, self._on_event)
        self.scheduler = SchedulerContainer(
            engine, in_thread, self._scheduler_options, workers=len(self.worker_spec)
        )
        for name, spec in self.worker_spec.items():
            self.workers[name] = worker = spec["cls"]("", name=name, **spec["options"])
            worker._cluster = weakref.ref(self)
            self._created.add(worker)
        starting = [asyncio.ensure_future(node) for node in (self.scheduler, *self.workers.values())]
        # Wait for all, since removal must not overlap with starting.
        await asyncio.wait(starting)
        with suppress(ImagesyncError):  # orphans of other clusters don't concern this one
            await sweeping
        await asyncio.gather(*starting)

    async def _watch_worker_status(self, comm: Any) -> None:  # noqa: ANN401
        await super()._watch_worker_status(comm)
        # The connection has ended. Give the engine time to report the cause.
        asyncio.get_running_loop().call_later(EVENT_TIMEOUT, self._on_scheduler_silence)

    def _on_scheduler_silence(self) -> None:
        if self._closing is None and self.status == Status.running:
            self._mark_lost("The connection to the scheduler has ended.")

    def _on_event(self, event: Event) -> None:
        """Pass an event of the engine from the listener's thread to the event loop."""
        with suppress(RuntimeError):  # the loop is closed, and so is the cluster
            self._loop_runner.loop.add_callback(self._handle_event, event)

    def _handle_event(self, event: Event) -> None:
        if self._closing is not None or self.status != Status.running:
            return
        scheduler = cast("SchedulerContainer", self.scheduler).container
        if event.action == "destroy":
            self._mark_lost(f"The network {self._engine.plan.network} was removed.")
        elif event.container == scheduler and event.action == "die":
            self._mark_lost(f"The scheduler's container ended with {event.exit_code}.")
        elif event.container == scheduler:
            self._mark_lost("The scheduler's container was disconnected from the cluster's network.")
        else:
            self._replace(event)

    def _replace(self, event: Event) -> None:
        """Replace the container of a worker that ended unexpectedly."""
        for name, worker in list(self.workers.items()):
            if worker.container != event.container or worker.status != Status.running:
                continue
            del self.workers[name]
            self._futures.add(asyncio.ensure_future(worker.close()))
            if event.action == "die" and event.exit_code == 0:
                self.worker_spec.pop(name, None)
                continue
            logger.warning("The container of worker %s has ended and is restarted.", name)
            self._correct_state().add_done_callback(_log_error)

    def _mark_lost(self, reason: str) -> None:
        self.lost = reason
        logger.error("The cluster %s is lost. %s", self.name, reason)
        self._closing = asyncio.ensure_future(self._finish())

    async def _begin_check(self) -> None:
        if not self._check:
            return
        if self._strict:
            await self._wait_for_workers(len(self.worker_spec))
            await check_agreement(self, strict=True, session=self._session)
        elif self._checking is None:
            self._checking = asyncio.ensure_future(self._check_later())

    async def _check_later(self) -> None:
        await self._wait_for_workers(len(self.worker_spec))
        with suppress(ImagesyncError, OSError):
            await check_agreement(self, strict=False, session=self._session)

    async def _close(self) -> None:
        if self.status == Status.closed:
            return
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._finish())
        await asyncio.shield(self._closing)

    async def _finish(self) -> None:
        await self._settle()
        if self._adaptive is not None:
            self._adaptive.stop()
        if self._checking is not None:
            self._checking.cancel()
        if self.scheduler_comm is not None and not self.lost:
            # Tell clients that the cluster closes on purpose; remove the containers in any case.
            with suppress(OSError, asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self.scheduler_comm.terminate(), FAREWELL_TIMEOUT)
        await self._tear_down()
        self.shutdown_scheduler = False
        await super()._close()

    async def _settle(self) -> None:
        """Stop starting containers, and wait for pending starts, which can't be cancelled."""
        if self._launching is not None and not self._launching.done():
            await asyncio.wait([self._launching])
        self.worker_spec, self.workers = {}, {}
        if self.scheduler is not None:
            # Otherwise pending tasks of SpecCluster would ask it to retire workers, with a long time-out.
            self.scheduler.status = Status.closing
        lock = getattr(self, "_lock", None)
        if lock is not None:
            # The holder may be waiting for a scheduler that no longer answers.
            with suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(lock.acquire(), SETTLE_TIMEOUT)
                lock.release()

    async def _tear_down(self) -> None:
        """Remove all resources of the cluster and close the connections."""
        if self._listener is not None:
            self._listener.close()
        complete = not self._claimed or await self._remove()
        for node in (*self._created, *([] if self.scheduler is None else [self.scheduler])):
            node.mark_closed()
        self.worker_spec, self.workers = {}, {}
        if self._reaper is not None:
            (self._reaper.dismiss if complete else self._reaper.release)()
        self._engine.close()
        self._threads.shutdown(wait=False)

    async def _remove(self) -> bool:
        """Remove containers and network, and return whether it worked; if not, the reaper continues."""
        try:
            await self._in_thread(self._engine.remove_everything)
        except EngineError as error:
            # The message has the engine's reason; a traceback adds nothing.
            logger.error("The cluster %s isn't completely removed yet: %s", self.name, error)  # noqa: TRY400
            return False
        except RuntimeError:  # no new threads while the interpreter shuts down
            return False
        return True

    def _abort(self) -> None:
        """Close the cluster after an error in the constructor."""
        if getattr(self, "status", Status.closed) != Status.closed:
            with suppress(Exception):
                self.sync(self._close)
        self._loop_runner.stop()
        self._threads.shutdown(wait=False)


def _log_error(replacement: asyncio.Future[None]) -> None:
    """Log the error of a replacement that nothing awaits."""
    if not replacement.cancelled() and (error := replacement.exception()) is not None:
        logger.error("A worker can't be restarted: %s", error)
