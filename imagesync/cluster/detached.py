"""Detached clusters, which outlive the process that starts them: up, connect, scale, logs, down."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesync.cluster.cleanup import claim_network, read_logs, remove_cluster
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import SCHEDULER, START_TIMEOUT, ClusterPlan
from imagesync.cluster.connection import (
    Connection,
    delete_connection,
    load_connection,
    make_security,
    security_from_dict,
    security_to_dict,
)
from imagesync.cluster.resources import THREADS
from imagesync.engine.endpoint import find_endpoint
from imagesync.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

    from imagesync.cluster.container_options import SchedulerOptions, WorkerOptions
    from imagesync.core.progress import Progress


def start_cluster(
    plan: ClusterPlan,
    *,
    workers: int,
    worker: WorkerOptions,
    scheduler: SchedulerOptions,
    progress: Progress,
    encrypted: bool = True,
) -> Connection:
    """Start a cluster that runs until :func:`stop_cluster`, and return the connection to it.

    Parameters
    ----------
    plan
        Plan without an owner.
    workers
        Number of workers; all have joined on return.
    worker, scheduler
        Options of each worker and of the scheduler.
    progress
        Receives the steps.
    encrypted
        Whether connections use TLS.

    Raises
    ------
    ClusterError
        The scheduler doesn't start, or a worker doesn't join. All containers are removed then.
    """
    security = security_to_dict(make_security(encrypted))
    engine = ClusterEngine(find_endpoint(os.environ), replace(plan, security=security))
    claim_network(engine)
    try:
        with progress.task(f"Starting {plan.name}", total=workers + 1, unit="steps") as task:
            with ThreadPoolExecutor(THREADS) as pool:
                scheduler_start = pool.submit(engine.start_scheduler, scheduler, workers=workers)
                list(pool.map(lambda name: engine.start_worker(name, worker), range(workers)))
                running = scheduler_start.result()
            task.advance(1)
            connection = Connection(
                name=plan.name,
                image=plan.image,
                address=running.address,
                dashboard=f"http://{running.dashboard}/status",
                worker=worker,
                security=security,
                config=plan.config,
            )
            _wait_for_workers(connection, engine, workers)
            task.advance(workers)
        connection.save()
    except BaseException:
        engine.remove_everything()
        delete_connection(plan.name)
        raise
    finally:
        engine.close()
    return connection


def _wait_for_workers(connection: Connection, engine: ClusterEngine, workers: int) -> None:
    from distributed import TimeoutError as DaskTimeoutError

    if workers == 0:
        return
    with _client(connection) as client:
        try:
            client.wait_for_workers(workers, timeout=START_TIMEOUT)
        except (DaskTimeoutError, TimeoutError) as error:
            joined = len(client.scheduler_info()["workers"])
            logs = [engine.logs(part, tail=20) for name, part in engine.parts().items() if name != SCHEDULER]
            raise ClusterError(
                f"{joined} of {workers} workers have come in {START_TIMEOUT:.0f} s."
                + "".join(f"\n{text}" for text in logs[:1])
            ) from error


def connect(name: str, **options: Any) -> Client:  # noqa: ANN401
    """Return a Dask client of a cluster that ``imagesync cluster up`` started.

    Parameters
    ----------
    name
        Name of the cluster.
    options
        Further arguments of :class:`distributed.Client`.

    Raises
    ------
    ClusterError
        The cluster doesn't exist or doesn't answer.
    """
    connection = load_connection(name)
    try:
        return _client(connection, **{"set_as_default": True, **options})
    except OSError as error:
        raise ClusterError(
            f"The cluster {name} doesn't answer at {connection.address}.",
            hint=f"See `imagesync cluster ls`, and remove its remains: imagesync cluster down {name}",
        ) from error


def scale_cluster(name: str, workers: int) -> tuple[int, int]:
    """Start or retire workers until there are *workers*, and return the old and the new number.

    Retired workers hand their results to others first.

    Raises
    ------
    ClusterError
        The cluster doesn't exist or doesn't answer.
    """
    connection = load_connection(name)
    plan = ClusterPlan(name, connection.image, None, connection.security, connection.config)
    engine = ClusterEngine(find_endpoint(os.environ), plan)
    try:
        present = {
            int(part.removeprefix("worker-")): container
            for part, container in engine.parts().items()
            if part != SCHEDULER
        }
        if len(present) < workers:
            free = (number for number in range(workers + len(present)) if number not in present)
            new = [next(free) for _ in range(workers - len(present))]
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda number: engine.start_worker(number, connection.worker), new))
            _wait_for_workers(connection, engine, workers)
        elif len(present) > workers:
            _retire(connection, engine, {number: present[number] for number in sorted(present)[workers:]})
        return len(present), workers
    finally:
        engine.close()


def _retire(connection: Connection, engine: ClusterEngine, retiring: Mapping[int, str]) -> None:
    with connect(connection.name, set_as_default=False) as client:
        addresses = [
            address
            for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()
            if worker["name"] in retiring
        ]
        client.retire_workers(addresses)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(engine.remove, retiring.values()))


def cluster_logs(name: str, *, tail: int | None = None) -> dict[str, str]:
    """Return the log of each container of a cluster, by ``scheduler`` and ``worker-<name>``.

    Raises
    ------
    ClusterError
        The cluster has no container.
    """
    engine = ClusterEngine(find_endpoint(os.environ), ClusterPlan(name, "", None))
    try:
        return read_logs(engine, tail=tail)
    finally:
        engine.close()


def stop_cluster(name: str) -> int:
    """Remove a cluster of any owner, and return the number of its containers and networks."""
    removed = remove_cluster(name, find_endpoint(os.environ))
    delete_connection(name)
    return removed


def _client(connection: Connection, **options: Any) -> Client:  # noqa: ANN401
    from distributed import Client

    with warnings.catch_warnings():
        # Version warnings are of no use: this process may run in imagesync's own environment.
        warnings.simplefilter("ignore")
        return Client(
            connection.address,
            security=security_from_dict(connection.security),
            **{"set_as_default": False, "timeout": 10, **options},
        )
