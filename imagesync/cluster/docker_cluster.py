"""A Dask cluster in containers of one engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import cluster_settings, make_plan
from imagesync.cluster.connection import load_connection, security_from_dict
from imagesync.cluster.container_cluster import ContainerCluster
from imagesync.cluster.container_options import (
    ClusterSize,
    SchedulerOptions,
    WorkerOptions,
    published_dashboard_port,
    same_threads,
    size_workers,
    with_defaults,
)
from imagesync.cluster.detached import engine_of, find_running
from imagesync.cluster.engine_options import check_json, make_engine_options
from imagesync.cluster.labels import this_process
from imagesync.cluster.worker_groups import make_groups
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.run_options import parse_mounts

if TYPE_CHECKING:
    from distributed import Security
    from tornado.ioloop import IOLoop
    from typing_extensions import Self

    from imagesync.engine.run_container import Mount
    from imagesync.session import Session


class DockerCluster(ContainerCluster):
    """A Dask cluster in containers of one machine, in the image of an environment.

    The cluster ends with the process that started it, even if that process is killed. Connections are
    encrypted with certificates made for this cluster, and ports are published on loopback.

    Parameters
    ----------
    image
        Reference of an image, pulled if the engine lacks it. By default the image of the current process's
        environment: found by its hash, or built first, with progress on stderr.
    n_workers, nthreads
        Number of workers, and of tasks that each runs at once; by default the choice of
        :class:`distributed.LocalCluster` for the CPUs of the engine's machine.
    threads_per_worker
        Another name of *nthreads*, as in :class:`distributed.LocalCluster`.
    memory_limit
        Memory of each worker, for Dask and for the engine: bytes, or as ``4GiB``; ``auto`` for an equal share
        of the machine's memory, 0 or ``None`` for no limit.
    cpus
        CPUs that the engine grants each worker; by default *nthreads*, 0 for no limit.
    environment
        Variables of scheduler and workers; not for secrets, since ``docker inspect`` shows them.
    mounts
        ``SOURCE:TARGET[:ro]``, or :class:`~imagesync.engine.run_container.Mount`, for scheduler and workers.
    gpus
        GPUs of each worker: ``all``, a number, or IDs (``0,1``).
    resources
        Dask's abstract resources of each worker.
    nanny
        Run Dask's nanny in each worker's container; only nanny plugins need it.
    host
        Address of the engine's machine at which ports are published; loopback by default.
    scheduler_port, dashboard_port
        Ports; 0 for any free one.
    dashboard_address
        *dashboard_port* as :class:`distributed.LocalCluster` takes it: ``":8787"``.
    idle_timeout
        Seconds without work after which the cluster ends.
    scheduler_options, worker_options
        Further arguments of :class:`distributed.Scheduler` and :class:`distributed.Worker`.
    shm_size
        Size of ``/dev/shm`` in each container, such as ``2g``; by default 1 GiB.
    network
        Name of an existing network that the containers join beside their own.
    labels
        Further labels of the containers.
    docker
        Further arguments of the Docker SDK's ``create_host_config``: ``{"cap_add": ["SYS_PTRACE"]}``.
    groups
        Further workers with options of their own, by the name of the group:
        ``{"gpu": {"n_workers": 1, "gpus": 1, "resources": {"GPU": 1}}}``. ``cluster.scale(2,
        worker_group="gpu")`` scales one; ``adapt`` concerns the other workers.
    security
        ``False`` for plain TCP, or your own :class:`distributed.Security`.
    config
        Dask configuration in the containers, which overrides that of the image.
    check, strict
        Whether to compare the packages of the cluster with this environment once the workers have joined
        (:func:`imagesync.check`). Differences are warnings; with *strict*, the constructor waits for the
        workers and raises.
    wait
        ``workers`` to return when all workers have joined, or after 60 s, with a warning; ``scheduler``
        to return when the scheduler listens.
    session
        Session for building and comparing; by default one with the settings of the working folder.
    name
        Name of the cluster, used in those of containers and network; random by default.
    asynchronous, loop, silence_logs, shutdown_on_close
        As for :class:`distributed.SpecCluster`.

    Raises
    ------
    ClusterError
        The scheduler doesn't start, or a cluster of that name exists.
    EngineNotFound, EngineError
        No engine answers, or it refuses: unknown image, more CPUs than it has, no GPUs.
    MismatchError
        *strict* is true and a package differs.
    """

    def __init__(
        self,
        image: str | None = None,
        *,
        n_workers: int | None = None,
        nthreads: int | None = None,
        threads_per_worker: int | None = None,
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
        dashboard_address: str | int | None = None,
        idle_timeout: float | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        worker_options: Mapping[str, Any] | None = None,
        shm_size: str | int | None = None,
        network: str = "",
        labels: Mapping[str, str] | None = None,
        docker: Mapping[str, Any] | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        security: Security | bool | None = None,
        config: Mapping[str, Any] | None = None,
        check: bool = True,
        strict: bool = False,
        wait: str = "workers",
        session: Session | None = None,
        name: str | None = None,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        silence_logs: int | bool = False,
        shutdown_on_close: bool = True,
    ) -> None:
        plan = make_plan(name, owner=this_process(), config=config)
        engine = ClusterEngine(find_endpoint(os.environ), plan)
        with engine.closed_on_error():
            variables, mounted = dict(environment or {}), parse_mounts(mounts)
            size = with_defaults(
                ClusterSize(
                    n_workers, same_threads(nthreads, threads_per_worker), memory_limit, cpus, shm_size
                ),
                cluster_settings(session),
            )
            options = make_engine_options(
                shm_size=size.shm_size, network=network, labels=labels, docker=docker
            )
            machine = engine.machine()
            count, worker = size_workers(
                machine,
                WorkerOptions(
                    environment=variables,
                    mounts=mounted,
                    gpus=str(gpus or ""),
                    resources=dict(resources or {}),
                    nanny=nanny,
                    dask=check_json("worker_options", worker_options),
                    engine=options,
                ),
                size,
            )
            super().__init__(
                engine,
                image=image,
                session=session,
                security=security,
                check=check,
                strict=strict,
                scheduler=SchedulerOptions(
                    host,
                    scheduler_port,
                    published_dashboard_port(dashboard_address, dashboard_port),
                    idle_timeout,
                    variables,
                    mounted,
                    check_json("scheduler_options", scheduler_options),
                    options,
                ),
                worker=worker,
                workers=count,
                wait=wait,
                groups=make_groups(groups, machine=machine, worker=worker),
                asynchronous=asynchronous,
                loop=loop,
                silence_logs=silence_logs,
                shutdown_on_close=shutdown_on_close,
            )

    @classmethod
    def from_name(  # type: ignore[override]  # SpecCluster names no options
        cls,
        name: str,
        *,
        session: Session | None = None,
        check: bool = True,
        strict: bool = False,
        shutdown_on_close: bool = False,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        silence_logs: int | bool = False,
    ) -> Self:
        """Return a cluster that ``imagesync cluster up`` started, to scale, adapt, check and synchronise it.

        It goes on after :meth:`close` and after this process.

        Parameters
        ----------
        name
            Name of the cluster.
        shutdown_on_close
            Whether :meth:`close` ends it, as ``imagesync cluster down`` does.
        session, check, strict, asynchronous, loop, silence_logs
            As for the constructor.

        Raises
        ------
        ClusterError
            No cluster of that name was started here, or it has ended.
        """
        connection = load_connection(name)
        engine = engine_of(connection)
        cluster = cls.__new__(cls)
        with engine.closed_on_error():
            ContainerCluster.__init__(
                cluster,
                engine,
                image=connection.image,
                session=session,
                security=security_from_dict(connection.security),
                check=check,
                strict=strict,
                scheduler=SchedulerOptions(),
                worker=connection.worker,
                workers=0,
                wait="workers",
                adopted=find_running(connection, engine),
                asynchronous=asynchronous,
                loop=loop,
                silence_logs=silence_logs,
                shutdown_on_close=shutdown_on_close,
            )
        return cluster
