"""A Dask cluster in services of a Docker Swarm."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from imagesync.cluster.cluster_plan import cluster_settings, make_plan
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
from imagesync.cluster.engine_options import check_json, make_engine_options
from imagesync.cluster.labels import this_process
from imagesync.cluster.swarm_engine import Placement, SwarmEngine
from imagesync.cluster.worker_groups import make_groups
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.run_options import parse_mounts
from imagesync.errors import UsageError

if TYPE_CHECKING:
    from distributed import Security
    from tornado.ioloop import IOLoop

    from imagesync.engine.run_container import Mount
    from imagesync.session import Session

_LONGEST_NAME = 63  # of a service


class SwarmCluster(ContainerCluster):
    """A Dask cluster in services of a Docker Swarm, on all of its machines, in the image of an environment.

    The cluster ends with the process that started it. Connections are encrypted; the certificates are made
    for this cluster and stored as a secret of the swarm. The engine has to manage the swarm.

    Parameters
    ----------
    image
        Reference in a registry that the nodes can pull from, by digest; by default the image of the current
        process's environment, whose ``repository`` names such a registry. In a swarm of a single node, any
        image of the engine.
    n_workers, nthreads
        Number of workers, and of tasks that each runs at once; by default the choice of
        :class:`distributed.LocalCluster` for all CPUs of the swarm's nodes.
    memory_limit
        Memory of each worker, for Dask and for the engine: bytes, or as ``4GiB``; ``auto`` for an equal share
        of the memory of all nodes, 0 or ``None`` for no limit.
    cpus
        Maximum CPUs of each worker; by default *nthreads*, 0 for no limit.
    reserve_cpus, reserve_memory
        CPUs and memory that a node must have free for each worker.
    constraints
        Constraints on workers' nodes, as ``docker service create --constraint``: ``node.labels.disk==ssd``.
    threads_per_worker, environment, mounts, resources, nanny, dashboard_address, idle_timeout, security
        As for :class:`~imagesync.cluster.docker_cluster.DockerCluster`; mounts are folders of the nodes.
    scheduler_options, worker_options, shm_size, labels, groups, config, check, strict, wait, session, name
        As for :class:`~imagesync.cluster.docker_cluster.DockerCluster`.
    asynchronous, loop, silence_logs, shutdown_on_close
        As for :class:`~imagesync.cluster.docker_cluster.DockerCluster`.
    gpus
        Amount of the generic resource ``gpu`` that each worker reserves.
    scheduler_port, dashboard_port
        Ports published on all addresses of the scheduler's node, since a swarm can't publish on loopback. By
        default the scheduler gets any free port; the dashboard, which isn't encrypted, isn't published.

    Raises
    ------
    ClusterError
        The engine manages no swarm, the scheduler doesn't start, the nodes can't pull the image, or a cluster
        of that name exists.
    EngineNotFound, EngineError
        No engine answers, or it refuses.
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
        reserve_cpus: float = 0,
        reserve_memory: str | int = 0,
        constraints: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        mounts: Iterable[str | Mount] = (),
        gpus: int = 0,
        resources: Mapping[str, float] | None = None,
        nanny: bool = False,
        scheduler_port: int = 0,
        dashboard_port: int = 0,
        dashboard_address: str | int | None = None,
        idle_timeout: float | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        worker_options: Mapping[str, Any] | None = None,
        shm_size: str | int | None = None,
        labels: Mapping[str, str] | None = None,
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
        from dask.utils import parse_bytes

        if not isinstance(gpus, int):
            raise UsageError(f"A swarm counts GPUs: gpus={gpus!r} is no number.")
        plan = make_plan(name, owner=this_process(), config=config)
        _check_names(plan.network, groups or {})
        placement = Placement(tuple(constraints), reserve_cpus, int(parse_bytes(reserve_memory)))
        engine = SwarmEngine(find_endpoint(os.environ), plan, placement)
        with engine.closed_on_error():
            variables, mounted = dict(environment or {}), parse_mounts(mounts)
            size = with_defaults(
                ClusterSize(
                    n_workers, same_threads(nthreads, threads_per_worker), memory_limit, cpus, shm_size
                ),
                cluster_settings(session),
            )
            options = make_engine_options(shm_size=size.shm_size, labels=labels)
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
            made = make_groups(groups, machine=machine, worker=worker)
            for group, (_, of_group) in made.items():
                _check_group(group, of_group)
            super().__init__(
                engine,
                image=image,
                session=session,
                security=security,
                check=check,
                strict=strict,
                scheduler=SchedulerOptions(
                    "0.0.0.0",  # noqa: S104  a swarm publishes on all addresses
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
                groups=made,
                asynchronous=asynchronous,
                loop=loop,
                silence_logs=silence_logs,
                shutdown_on_close=shutdown_on_close,
            )


def _check_names(network: str, groups: Iterable[str]) -> None:
    """Check that services can be called by the names of the cluster and its groups.

    Raises
    ------
    UsageError
        They can't.
    """
    for service in (f"{network}-worker-0", *(f"{network}-worker-{group}-0" for group in groups)):
        # As swarmkit's validateAnnotations, with room for larger numbers.
        if "." in service or len(service) > _LONGEST_NAME - 3:
            raise UsageError(
                f"A swarm can't have a service called {service}.",
                hint="Give the cluster or the group a shorter name, or one without '.'.",
            )


def _check_group(name: str, worker: WorkerOptions) -> None:
    """Check that a group of workers has no option that a service can't have.

    Raises
    ------
    UsageError
        It has.
    """
    if worker.engine.docker:
        raise UsageError(f"The group {name} has the option docker, which services of a swarm don't take.")
    if worker.gpus and not worker.gpus.isdigit():
        raise UsageError(f"A swarm counts GPUs: gpus={worker.gpus!r} of the group {name} is no number.")
