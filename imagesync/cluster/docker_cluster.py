"""A Dask cluster in containers of this machine's engine."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from distributed import Status
from distributed.deploy.spec import SpecCluster
from distributed.utils import format_dashboard_link

from imagesync.build.endpoint import find_endpoint
from imagesync.cluster.agreement import check_agreement, check_scheduler, sync_code
from imagesync.cluster.engine import THREADS, ClusterEngine, ClusterPlan
from imagesync.cluster.events import Event, Watch
from imagesync.cluster.image import cluster_image
from imagesync.cluster.labels import this_process
from imagesync.cluster.leftovers import claim_network, read_logs, sweep
from imagesync.cluster.options import SchedulerOptions, check_name, parse_mounts
from imagesync.cluster.processes import SchedulerContainer, WorkerContainer
from imagesync.cluster.reaper import Reaper
from imagesync.cluster.security import make_security, security_to_dict
from imagesync.cluster.sizes import worker_sizes
from imagesync.errors import EngineError, ImagesyncError

if TYPE_CHECKING:
    from distributed import Security
    from tornado.ioloop import IOLoop

    from imagesync.build.engine import Mount
    from imagesync.pipeline import Session

logger = logging.getLogger(__name__)

GOODBYE = 1.0  # seconds that the scheduler gets to tell clients and workers that it closes


class DockerCluster(SpecCluster):
    """A Dask cluster in containers of one machine, in the image of an environment.

    It ends with the process that made it, however that process ends. Connections are encrypted, with
    certificates made for this cluster alone, and ports are published on loopback.

    Parameters
    ----------
    image
        A reference, pulled if the engine doesn't have it. By default that of the environment that this
        process runs in: found by its hash, or built first, with progress on stderr.
    n_workers, nthreads
        How many workers, and how many tasks each runs at once; by default what
        :class:`distributed.LocalCluster` takes for the CPUs of the engine's machine.
    memory_limit
        Of each worker, for Dask and for the engine: bytes, or as ``4GiB``; ``auto`` is its share of the
        machine's memory, 0 or ``None`` no limit.
    cpus
        How many CPUs the engine gives each worker; by default *nthreads*, 0 for no limit.
    environment
        Variables of scheduler and workers; ``docker inspect`` shows them, so no place for secrets.
    mounts
        ``SOURCE:TARGET[:ro]``, or :class:`~imagesync.build.engine.Mount`, for scheduler and workers.
    gpus
        ``all``, how many, or which (``0,1``), for each worker.
    resources
        Dask's abstract resources of each worker.
    nanny
        Run Dask's nanny in each worker's container too; only plugins for nannies need it.
    host
        Where ports are published on the engine's machine: loopback only, unless asked.
    scheduler_port, dashboard_port
        0 for any that is free.
    idle_timeout
        Seconds without work after which the cluster ends.
    security
        ``False`` for plain TCP, or a :class:`distributed.Security` of your own.
    config
        Dask's configuration in the containers, over what the image has.
    check, strict
        Whether each package of the cluster is compared with this environment once the workers are there
        (:func:`imagesync.check`). What differs is a warning; if *strict*, the constructor waits for the
        workers, and raises.
    session
        Settings for building and comparing; by default those that hold in this folder.
    name
        What containers and network are named after; random if not given.

    Raises
    ------
    ClusterError
        The scheduler doesn't start, or there is a cluster of that name.
    EngineNotFound, EngineError
        No engine answers, or it refuses: no such image, more CPUs than it has, no GPUs.
    MismatchError
        *strict*, and something differs.
    """

    def __init__(
        self,
        image: str | None = None,
        *,
        n_workers: int | None = None,
        nthreads: int | None = None,
        memory_limit: str | float | None = "auto",
        cpus: float | None = None,
        environment: Mapping[str, str] | None = None,
        mounts: Iterable[str | Mount] = (),
        gpus: str | int = "",
        resources: Mapping[str, float] | None = None,
        nanny: bool = False,
        host: str = "127.0.0.1",
        scheduler_port: int = 0,
        dashboard_port: int = 0,
        idle_timeout: float | None = None,
        security: Security | bool | None = None,
        config: Mapping[str, Any] | None = None,
        check: bool = True,
        strict: bool = False,
        session: Session | None = None,
        name: str | None = None,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        silence_logs: int | bool = False,
        shutdown_on_close: bool = True,
    ) -> None:
        name = check_name(name or secrets.token_hex(4))
        self._session = session
        self._check, self._strict = check, strict
        self._wanted_image, self._wanted_security = image, security
        plan = ClusterPlan(name, "", this_process(), config=dict(config or {}))
        self._engine = ClusterEngine(find_endpoint(os.environ), plan)
        count, options = worker_sizes(
            self._engine, n_workers=n_workers, nthreads=nthreads, memory_limit=memory_limit, cpus=cpus
        )
        variables, mounted = dict(environment or {}), parse_mounts(mounts)
        worker = replace(
            options,
            environment=variables,
            mounts=mounted,
            gpus=str(gpus or ""),
            resources=dict(resources or {}),
            nanny=nanny,
        )
        self._scheduler_options = SchedulerOptions(
            host, scheduler_port, dashboard_port, idle_timeout, variables, mounted
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"imagesync-{name}")
        self._claimed = False
        self._reaper: Reaper | None = None
        self._watch: Watch | None = None
        self._launching: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._checking: asyncio.Future[None] | None = None
        self.image = ""
        """The reference of the image that all containers run."""
        self.lost = ""
        """Why the cluster ended by itself, if it did."""
        new = {
            "cls": WorkerContainer,
            "options": {
                "engine": self._engine,
                "in_thread": self._in_thread,
                "options": worker,
                "nthreads": worker.nthreads,
                "memory_limit": worker.memory_limit,
            },
        }
        if not asynchronous:
            # Here and not in the event loop's thread, so that an interrupt reaches the build.
            self.image = cluster_image(image, session, self._engine.endpoint)
        try:
            super().__init__(
                workers=dict.fromkeys(range(count), new),
                worker=new,
                asynchronous=asynchronous,
                loop=loop,
                name=name,
                silence_logs=silence_logs,
                shutdown_on_close=shutdown_on_close,
            )
        except BaseException:
            self._give_up()
            raise

    @property
    def dashboard_link(self) -> str:
        """The dashboard's URL, by the template of Dask's configuration."""
        running = getattr(self.scheduler, "running", None)
        if running is None:
            return ""
        host, _, port = running.dashboard.rpartition(":")
        return str(format_dashboard_link(host, port))

    def logs(self, *, tail: int | None = None) -> Any:  # noqa: ANN401  awaitable, if asynchronous
        """Return what ``scheduler`` and each ``worker-<name>`` have written, from the engine.

        Unlike :meth:`get_logs` it needs no answer of theirs, and has the end of a worker that crashed.

        Parameters
        ----------
        tail
            How many lines of each; all if not given.
        """
        return self.sync(self._in_thread, read_logs, self._engine, tail=tail)

    def check(self, *, strict: bool = False) -> Any:  # noqa: ANN401
        """Compare every package of scheduler and workers with this environment (:func:`imagesync.check`).

        Raises
        ------
        MismatchError
            *strict*, and something differs.
        """
        return self.sync(check_agreement, self, strict=strict, session=self._session)

    def sync(
        self,
        func: Callable[..., Any] | None = None,
        *args: Any,  # noqa: ANN401
        restart: bool | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Send what has changed here since the image was built (:func:`imagesync.sync`).

        Given a function, do what Dask's own method of that name does: run it on the event loop.

        Parameters
        ----------
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
            # Dask wraps what happened: ours says more.
            if isinstance(error.__cause__, ImagesyncError):
                raise error.__cause__ from error.__cause__.__cause__
            raise

    async def _launch(self) -> None:
        """Start scheduler and workers, all at once: a worker looks for its scheduler until it listens."""
        engine, in_thread = self._engine, self._in_thread
        if not self.image:
            self.image = await in_thread(cluster_image, self._wanted_image, self._session, engine.endpoint)
        securing = in_thread(make_security, self._wanted_security)
        network = await in_thread(claim_network, engine)
        self._claimed = True
        self._reaper = Reaper(engine.plan.name, engine.endpoint)
        sweeping = in_thread(sweep, engine.endpoint)
        self.security = await securing
        engine.plan = replace(engine.plan, image=self.image, security=security_to_dict(self.security))
        self._watch = Watch(engine.endpoint, cluster=engine.plan.name, network=network, notify=self._happened)
        self.scheduler = SchedulerContainer(
            engine, in_thread, self._scheduler_options, workers=len(self.worker_spec)
        )
        for name, spec in self.worker_spec.items():
            self.workers[name] = worker = spec["cls"]("", name=name, **spec["options"])
            worker._cluster = weakref.ref(self)
            self._created.add(worker)
        starting = [
            asyncio.ensure_future(_started(node)) for node in (self.scheduler, *self.workers.values())
        ]
        # All of them have started or failed before anything is removed.
        await asyncio.wait(starting)
        with suppress(ImagesyncError):  # what others have left is no concern of this cluster
            await sweeping
        await asyncio.gather(*starting)

    def _happened(self, event: Event) -> None:
        """Pass on what the engine reports, from the thread that listens to it."""
        with suppress(RuntimeError):  # the loop is closed: so is the cluster
            self._loop_runner.loop.add_callback(self._react, event)

    def _react(self, event: Event) -> None:
        if self._closing is not None or self.status != Status.running:
            return
        scheduler = cast("SchedulerContainer", self.scheduler).container
        if event.action == "destroy":
            self._lose(f"The network {self._engine.plan.network} was removed.")
        elif event.container == scheduler and event.action == "die":
            self._lose(f"The scheduler's container ended with {event.exit_code}.")
        elif event.container == scheduler:
            self._lose("The scheduler's container was disconnected from the cluster's network.")
        else:
            self._replace(event)

    def _replace(self, event: Event) -> None:
        """Start a worker's container again where it has ended without being asked to."""
        for name, worker in list(self.workers.items()):
            if worker.container != event.container or worker.status != Status.running:
                continue
            del self.workers[name]
            self._futures.add(asyncio.ensure_future(worker.close()))
            if event.action == "die" and event.exit_code == 0:
                self.worker_spec.pop(name, None)
                continue
            logger.warning("The container of worker %s has ended, and is started again.", name)
            self._correct_state()

    def _lose(self, reason: str) -> None:
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
        if self._launching is not None and not self._launching.done():
            # What is being started can't be called back.
            await asyncio.wait([self._launching])
        if self._adaptive is not None:
            self._adaptive.stop()
        if self._checking is not None:
            self._checking.cancel()
        if self.scheduler_comm is not None and not self.lost:
            # Clients learn that it was meant; whether it answers or not, the containers go.
            with suppress(OSError, asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self.scheduler_comm.terminate(), GOODBYE)
        await self._tear_down()
        self.shutdown_scheduler = False
        await super()._close()

    async def _tear_down(self) -> None:
        """Remove all that the engine has of the cluster."""
        if self._watch is not None:
            self._watch.close()
        complete = not self._claimed or await self._remove()
        for node in (*self._created, *([] if self.scheduler is None else [self.scheduler])):
            node.forget()
        self.worker_spec, self.workers = {}, {}
        if self._reaper is not None:
            (self._reaper.dismiss if complete else self._reaper.release)()
        self._engine.close()
        self._threads.shutdown(wait=False)

    async def _remove(self) -> bool:
        """Remove containers and network, and return whether it was possible; if not, the reaper goes on."""
        try:
            await self._in_thread(self._engine.remove_everything)
        except EngineError as error:
            # The reason is the engine's, and no frame of ours says more.
            logger.error("Not all of the cluster %s is removed yet: %s", self.name, error)  # noqa: TRY400
            return False
        except RuntimeError:  # the interpreter shuts down, and takes no more work for threads
            return False
        return True

    def _give_up(self) -> None:
        """End what the constructor has begun."""
        if getattr(self, "status", Status.closed) != Status.closed:
            with suppress(Exception):
                self.sync(self._close)
        self._loop_runner.stop()
        self._threads.shutdown(wait=False)


async def _started(node: SchedulerContainer | WorkerContainer) -> None:
    await node
