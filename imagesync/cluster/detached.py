"""Detached clusters, which outlive the process that starts them: up, connect, scale, logs, down."""

from __future__ import annotations

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imagesync.cluster.cleanup import claim_network, read_logs, remove_cluster
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import SCHEDULER, START_TIMEOUT, ClusterPlan, RunningScheduler
from imagesync.cluster.connection import (
    Connection,
    delete_connection,
    load_connection,
    make_security,
    security_from_dict,
    security_to_dict,
)
from imagesync.cluster.resources import THREADS
from imagesync.cluster.start_failure import find_failure
from imagesync.engine.endpoint import find_endpoint
from imagesync.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

    from imagesync.cluster.container_options import SchedulerOptions, WorkerOptions
    from imagesync.core.progress import Progress


_LOOK = 2.0  # seconds between looks at workers that haven't joined
_TAIL = 100  # lines of their logs


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
    if workers == 0:
        return
    end = time.monotonic() + START_TIMEOUT
    # A container that ends takes its log with it: keep what was read.
    logs = dict.fromkeys(engine.parts().keys() - {SCHEDULER}, "")
    with _client(connection) as client:
        while not _have_joined(client, workers):
            present = client.scheduler_info(n_workers=-1)["workers"].values()
            for worker in present:
                logs.pop(f"worker-{worker['name']}", None)
            running = engine.parts()
            for part in logs.keys() & running.keys():
                logs[part] = engine.logs(running[part], tail=_TAIL) or logs[part]
            failure = find_failure(logs, running=running, expired=time.monotonic() > end)
            if failure is not None:
                raise failure.error(
                    image=connection.image,
                    memory_limit=connection.worker.memory_limit,
                    joined=len(present),
                    workers=workers,
                )


def _have_joined(client: Client, workers: int) -> bool:
    from distributed import TimeoutError as DaskTimeoutError

    try:
        client.wait_for_workers(workers, timeout=_LOOK)
    except (DaskTimeoutError, TimeoutError):
        return False
    return True


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
    engine = engine_of(connection)
    try:
        parts = engine.parts()
        present = _workers_of(parts)
        if len(present) < workers:
            engine.find_scheduler(parts)
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


@dataclass(frozen=True)
class RunningCluster:
    """What runs of a detached cluster: its scheduler, and the container of each worker by name."""

    scheduler: RunningScheduler
    workers: Mapping[int, str]


def engine_of(connection: Connection) -> ClusterEngine:
    """Return the engine with the plan of a detached cluster that was started here."""
    plan = ClusterPlan(connection.name, connection.image, None, connection.security, connection.config)
    return ClusterEngine(find_endpoint(os.environ), plan)


def find_running(connection: Connection, engine: ClusterEngine) -> RunningCluster:
    """Return the running containers of a connection's cluster.

    Raises
    ------
    ClusterError
        It has no scheduler any more.
    """
    parts = engine.parts()
    container = engine.find_scheduler(parts)
    scheduler = RunningScheduler(container, connection.address, urlsplit(connection.dashboard).netloc)
    return RunningCluster(scheduler, _workers_of(parts))


def _workers_of(parts: Mapping[str, str]) -> dict[int, str]:
    return {
        int(part.removeprefix("worker-")): container for part, container in parts.items() if part != SCHEDULER
    }


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
    import distributed

    class Client(distributed.Client):
        """Dask's client, with the link to where the dashboard is published, not to its port there."""

        @property
        def dashboard_link(self) -> str:
            return connection.dashboard

    with warnings.catch_warnings():
        # Version warnings are of no use: this process may run in imagesync's own environment.
        warnings.simplefilter("ignore")
        return Client(
            connection.address,
            security=security_from_dict(connection.security),
            **{"set_as_default": False, "timeout": 10, **options},
        )
