"""The part of a Dask cluster in containers that Docker and Swarm share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes
from distributed import Status
from distributed.objects import SchedulerInfo
from distributed.utils import format_dashboard_link

from imagesync.cluster.agreement.check import check_agreement, check_scheduler
from imagesync.cluster.agreement.sync import sync_code
from imagesync.cluster.cleanup import claim_network, read_logs, sweep
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import cluster_image
from imagesync.cluster.connection import delete_connection, make_security, security_to_dict
from imagesync.cluster.container_options import SchedulerOptions, WorkerOptions
from imagesync.cluster.events import EventListener
from imagesync.cluster.processes import SchedulerContainer, WorkerContainer
from imagesync.cluster.reaper import Reaper
from imagesync.cluster.resources import THREADS
from imagesync.cluster.supervised_cluster import JOIN_TIMEOUT
from imagesync.cluster.worker_groups import GroupedCluster, Groups
from imagesync.errors import EngineError, ImagesyncError, UsageError

if TYPE_CHECKING:
    from distributed import Security

    from imagesync.cluster.detached import RunningCluster
    from imagesync.session import Session

logger = logging.getLogger(__name__)

FAREWELL_TIMEOUT = 1.0  # seconds for the scheduler to tell clients and workers that it closes
SETTLE_TIMEOUT = 5.0  # seconds for pending work when the cluster is closed


class ContainerCluster(GroupedCluster):
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
    groups
        Further workers with options of their own.
    adopted
        A detached cluster that runs already, and goes on after :meth:`close` unless *shutdown_on_close*.
    wait
        As for :class:`DockerCluster`.
    asynchronous, shutdown_on_close, options
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
        wait: str,
        asynchronous: bool,
        shutdown_on_close: bool,
        groups: Groups | None = None,
        adopted: RunningCluster | None = None,
        **options: Any,  # noqa: ANN401  SpecCluster has no types
    ) -> None:
        if wait not in {"workers", "scheduler"}:
            raise UsageError(f"wait={wait!r} is neither 'workers' nor 'scheduler'.")
        self._engine = engine
        self._session = session
        self._check, self._strict, self._wait = check, strict, wait
        self._wanted_image, self._wanted_security = image, security
        self._scheduler_options = replace(scheduler, groups=tuple(groups or ()))
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=engine.plan.network)
        self._adopted = adopted
        self._claimed = False
        self._reaper: Reaper | None = None
        self._listener: EventListener | None = None
        self._launching: asyncio.Future[None] | None = None
        self._checking: asyncio.Future[None] | None = None
        self.image = ""
        """Reference of the image that all containers run."""
        specs = {name: self._worker_spec(options) for name, (_, options) in (groups or {}).items()}
        others = self._worker_spec(worker)
        initial: dict[str | int, Any] = dict.fromkeys(
            range(workers) if adopted is None else adopted.workers, others
        )
        for name, (count, _) in (groups or {}).items():
            initial |= {f"{name}-{number}": specs[name] for number in range(count)}
        if adopted is not None:
            self.image = engine.plan.image
        elif not asynchronous:
            # In the main thread, so that an interrupt reaches the build.
            self.image = engine.prepare(cluster_image(image, session, engine.endpoint))
        try:
            super().__init__(
                workers=initial,
                worker=others,
                groups=specs,
                asynchronous=asynchronous,
                shutdown_on_close=shutdown_on_close,
                name=engine.plan.name,
                **options,
            )
            if not self.called_from_running_loop:
                if wait == "workers" and self.worker_spec:
                    self._show_arrivals()
                self._claim_adopted()
        except BaseException:
            self._abort()
            raise

    def __repr__(self) -> str:
        workers = self.scheduler_info["workers"].values()
        parts = [
            repr(self.name),
            repr(self.scheduler_address),
            f"workers={len(workers)}",
            f"threads={sum(worker['nthreads'] for worker in workers)}",
        ]
        if all(worker["memory_limit"] for worker in workers):
            parts.append(f"memory={format_bytes(sum(worker['memory_limit'] for worker in workers))}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _worker_spec(self, options: WorkerOptions) -> dict[str, Any]:
        return {
            "cls": WorkerContainer,
            "options": {
                "engine": self._engine,
                "in_thread": self._in_thread,
                "options": options,
                "nthreads": options.nthreads,
                "memory_limit": options.memory_limit,
            },
        }

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

        If workers were lost, ``cluster`` has a line for each. Unlike :meth:`get_logs` it works without an
        answer from them and includes the end of a crashed worker.

        Parameters
        ----------
        tail
            Number of lines of each log; all by default.
        """
        return self.sync(self._read_logs, tail)

    async def _read_logs(self, tail: int | None) -> dict[str, str]:
        logs: dict[str, str] = {}
        if self._closing is None:
            logs = await self._in_thread(read_logs, self._engine, tail=tail)
        if self._losses.lines:
            logs["cluster"] = "\n".join(self._losses.lines)
        return logs

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

    async def _bring_up(self) -> None:
        try:
            if self.status == Status.created:
                if self._launching is None:
                    self._launching = asyncio.ensure_future(self._launch())
                await self._launching
            await self._connect()
            await check_scheduler(self.scheduler_comm, strict=self._strict)
            await self._begin_check()
            if self.called_from_running_loop:
                if self.asynchronous and self._wait == "workers":
                    await self._await_workers(JOIN_TIMEOUT)
                self._claim_adopted()
        except BaseException as error:
            self._engine.hurry(error)
            await self._take_down()
            # Dask wraps the error that has the message for the user.
            if not isinstance(error, ImagesyncError) and isinstance(error.__cause__, ImagesyncError):
                raise error.__cause__ from error.__cause__.__cause__
            raise

    async def _launch(self) -> None:
        """Start scheduler and workers concurrently: a worker waits until its scheduler listens."""
        engine, in_thread = self._engine, self._in_thread
        if self._adopted is not None:
            await self._adopt(self._adopted)
            return
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
        self._create_workers({})
        starting = [asyncio.ensure_future(node) for node in (self.scheduler, *self.workers.values())]
        # Wait for all, since removal must not overlap with starting.
        await asyncio.wait(starting)
        with suppress(ImagesyncError):  # orphans of other clusters don't concern this one
            await sweeping
        await asyncio.gather(*starting)

    async def _adopt(self, adopted: RunningCluster) -> None:
        """Take over a scheduler and workers that run already."""
        self.security = self._wanted_security
        self.scheduler = SchedulerContainer(
            self._engine, self._in_thread, self._scheduler_options, workers=0, running=adopted.scheduler
        )
        self._create_workers(adopted.workers)
        await asyncio.gather(self.scheduler, *self.workers.values())

    def _claim_adopted(self) -> None:
        """Own a cluster that ran before, once it is sure that it isn't left after an error."""
        if self._adopted is not None:
            self._claimed = self.shutdown_on_close

    def _create_workers(self, containers: Mapping[int, str]) -> None:
        """Create the worker of each specification; those that have a container already aren't started."""
        for name, spec in self.worker_spec.items():
            worker = spec["cls"]("", name=name, **spec["options"])
            worker.container = containers.get(name, "")
            self._add_worker(name, worker)

    def _end(self) -> None:
        self._closing = asyncio.ensure_future(self._finish())

    async def _begin_check(self) -> None:
        if not self._check:
            return
        if self._strict:
            await self._await_workers()
            await check_agreement(self, strict=True, session=self._session)
        elif self._checking is None:
            self._checking = asyncio.ensure_future(self._check_later())

    async def _check_later(self) -> None:
        with suppress(ImagesyncError, OSError):
            await self._await_workers()
            await check_agreement(self, strict=False, session=self._session)

    async def _take_down(self) -> None:
        if self.status == Status.closed:
            return
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._finish())
        await asyncio.shield(self._closing)
        self.status = Status.closed  # also after a failure

    async def _finish(self) -> None:
        failed = self.status == Status.failed
        # Clients don't try to connect again to a cluster that is closing.
        self.status = Status.closing
        await self._settle()
        self._stop_adapting()
        for task in (self._checking, self._watching):
            if task is not None:
                task.cancel()
        if self.scheduler_comm is not None and self._claimed and (failed or not self.lost):
            # Tell clients that the cluster closes on purpose; remove the containers in any case.
            with suppress(OSError, asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self.scheduler_comm.terminate(), FAREWELL_TIMEOUT)
        await self._tear_down()
        await self._await_background()
        self.scheduler_info = SchedulerInfo({**self.scheduler_info, "workers": {}})
        await self._disconnect()
        if failed:
            self.status = Status.failed

    async def _settle(self) -> None:
        """Stop starting containers, and wait for pending starts, which can't be cancelled."""
        if self._launching is not None and not self._launching.done():
            await asyncio.wait([self._launching])
        self.worker_spec, self.workers = {}, {}
        if self.scheduler is not None:
            # Otherwise pending tasks of SpecCluster would ask it to retire workers, with a long time-out.
            self.scheduler.status = Status.closing
        await self._await_fitting(SETTLE_TIMEOUT)

    async def _tear_down(self) -> None:
        """Remove all resources of the cluster and close the connections."""
        if self._listener is not None:
            self._listener.close()
        complete = not self._claimed or await self._remove()
        for node in (*self._all_workers, *([] if self.scheduler is None else [self.scheduler])):
            node.mark_closed()
        self.worker_spec, self.workers = {}, {}
        if self._adopted is not None and self._claimed:
            delete_connection(self.name)
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
                self.sync(self._take_down)
        self._stop_loop()
        self._threads.shutdown(wait=False)
