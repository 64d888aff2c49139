"""A Dask cluster in services of a Docker Swarm."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesync.cluster.container_cluster import ContainerCluster
from imagesync.cluster.labels import this_process
from imagesync.cluster.options import SchedulerOptions, check_name, parse_mounts
from imagesync.cluster.plan import ClusterPlan
from imagesync.cluster.sizes import Machine, size_workers
from imagesync.cluster.swarm.engine import Placement, SwarmEngine
from imagesync.engine.endpoint import find_endpoint
from imagesync.errors import UsageError

if TYPE_CHECKING:
    from distributed import Security
    from tornado.ioloop import IOLoop

    from imagesync.engine.run import Mount
    from imagesync.session import Session


class SwarmCluster(ContainerCluster):
    """A Dask cluster in services of a Docker Swarm, on all of its machines, in the image of an environment.

    It ends with the process that made it. Connections are encrypted; the certificates, made for this cluster
    alone, are a secret of the swarm. The engine that answers here has to manage the swarm.

    Parameters
    ----------
    image
        A reference in a registry that the nodes can pull from; by default that of the environment that this
        process runs in, whose ``repository`` names such a registry. Nodes get it by digest. Where no
        other node runs anything any image of the engine will do.
    n_workers, nthreads
        How many workers, and how many tasks each runs at once; by default what
        :class:`distributed.LocalCluster` takes for all CPUs of the swarm's nodes.
    memory_limit
        Of each worker, for Dask and for the engine: bytes, or as ``4GiB``; ``auto`` is its share of what
        all nodes have, 0 or ``None`` no limit.
    cpus
        How many CPUs each worker gets at most; by default *nthreads*, 0 for no limit.
    reserve_cpus, reserve_memory
        What a node must have free for each worker, so that the swarm places it there.
    constraints
        Where workers may run, as ``docker service create --constraint``: ``node.labels.disk==ssd``.
    environment, mounts, resources, nanny, idle_timeout, security, config, check, strict, session, name
        As for :class:`~imagesync.cluster.docker_cluster.DockerCluster`; mounts are folders of the nodes.
    gpus
        How many of the generic resource ``gpu`` each worker reserves.
    scheduler_port, dashboard_port
        Published on the scheduler's node, on all of its addresses: a swarm knows no loopback. By default the
        scheduler's is any that is free; the dashboard, which isn't encrypted, isn't published.

    Raises
    ------
    ClusterError
        The engine manages no swarm, the scheduler doesn't start, the nodes couldn't pull the image, or there
        is a cluster of that name.
    EngineNotFound, EngineError
        No engine answers, or it refuses.
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
        from dask.utils import parse_bytes

        if not isinstance(gpus, int):
            raise UsageError(f"A swarm counts GPUs: gpus={gpus!r} is no number.")
        plan = ClusterPlan(
            check_name(name or secrets.token_hex(4)), "", this_process(), config=dict(config or {})
        )
        placement = Placement(tuple(constraints), reserve_cpus, int(parse_bytes(reserve_memory)))
        engine = SwarmEngine(find_endpoint(os.environ), plan, placement)
        count, options = size_workers(
            _machine(engine), n_workers=n_workers, nthreads=nthreads, memory_limit=memory_limit, cpus=cpus
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
                "0.0.0.0",  # noqa: S104  a swarm publishes on all addresses
                scheduler_port,
                dashboard_port,
                idle_timeout,
                variables,
                mounted,
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


def _machine(engine: SwarmEngine) -> Machine:
    """Return what all nodes have together."""
    resources = [entry["Description"]["Resources"] for entry in engine.nodes()]
    return Machine(
        cpus=sum(int(each["NanoCPUs"]) for each in resources) // 10**9,
        memory=sum(int(each["MemoryBytes"]) for each in resources),
    )
