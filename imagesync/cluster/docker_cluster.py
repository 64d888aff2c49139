"""A Dask cluster in containers of this machine's engine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesync.cluster.container_cluster import ContainerCluster
from imagesync.cluster.engine import ClusterEngine
from imagesync.cluster.labels import this_process
from imagesync.cluster.options import SchedulerOptions, check_name, parse_mounts
from imagesync.cluster.plan import ClusterPlan
from imagesync.cluster.sizes import machine_of, size_workers
from imagesync.engine.endpoint import find_endpoint

if TYPE_CHECKING:
    from distributed import Security
    from tornado.ioloop import IOLoop

    from imagesync.engine.run import Mount
    from imagesync.session import Session


class DockerCluster(ContainerCluster):
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
        ``SOURCE:TARGET[:ro]``, or :class:`~imagesync.engine.engine.Mount`, for scheduler and workers.
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
        plan = ClusterPlan(
            check_name(name or secrets.token_hex(4)), "", this_process(), config=dict(config or {})
        )
        engine = ClusterEngine(find_endpoint(os.environ), plan)
        count, options = size_workers(
            machine_of(engine), n_workers=n_workers, nthreads=nthreads, memory_limit=memory_limit, cpus=cpus
        )
        variables, mounted = dict(environment or {}), parse_mounts(mounts)
        super().__init__(
            engine,
            image=image,
            session=session,
            security=security,
            check=check,
            strict=strict,
            scheduler=SchedulerOptions(
                host, scheduler_port, dashboard_port, idle_timeout, variables, mounted
            ),
            worker=replace(
                options,
                environment=variables,
                mounts=mounted,
                gpus=str(gpus or ""),
                resources=dict(resources or {}),
                nanny=nanny,
            ),
            workers=count,
            asynchronous=asynchronous,
            loop=loop,
            silence_logs=silence_logs,
            shutdown_on_close=shutdown_on_close,
        )
