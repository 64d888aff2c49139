"""Containers and network of a cluster in an engine, by the Docker SDK."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from imagesync.cluster import labels
from imagesync.cluster.cluster_plan import (
    BOOTSTRAP,
    SCHEDULER,
    START_TIMEOUT,
    ClusterPlan,
    RunningScheduler,
    common_config,
    part_of,
    reachable_host,
    require_reachable,
    run_as,
    scheduler_config,
    spawn_environment,
    worker_config,
)
from imagesync.cluster.container_options import Machine, SchedulerOptions, WorkerOptions
from imagesync.cluster.engine_options import EngineOptions
from imagesync.cluster.events import Event, EventListener
from imagesync.cluster.own_container import join_network
from imagesync.cluster.resources import (
    CONFLICT,
    NOT_FOUND,
    find_resources,
    labels_of,
    remove_container,
    remove_resources,
)
from imagesync.cluster.scheduler_streams import SchedulerStreams
from imagesync.core.limits import is_silence
from imagesync.engine.client import connect, engine_errors, is_podman
from imagesync.engine.run_container import Attachment
from imagesync.engine.run_options import device_requests, mount_objects
from imagesync.errors import ClusterError, EngineError
from imagesync.standalone.cluster import node

if TYPE_CHECKING:
    import docker

    from imagesync.engine.endpoint import Endpoint
    from imagesync.engine.run_container import Mount

_HURRIED_TIMEOUT = 10.0  # seconds for an answer, from an engine that wasn't in time before
# Of runc and of crun.
_NO_PYTHON = re.compile(r"[\"`]python[\"`].*(not found|no such file)", re.IGNORECASE | re.DOTALL)


class ClusterEngine:
    """Creates and removes the containers and the network of one cluster; safe to use in several threads.

    Parameters
    ----------
    endpoint
        Address of the engine.
    plan
        Name, owner, image and security of the cluster.
    """

    def __init__(self, endpoint: Endpoint, plan: ClusterPlan) -> None:
        self.endpoint = endpoint
        self.plan = plan
        self._clients: list[docker.APIClient] = []
        self._local = threading.local()
        self._timeout: float | None = None
        self._scheduler_host: Future[str] = Future()

    @property
    def api(self) -> docker.APIClient:
        """The SDK client of the current thread, since it isn't thread-safe."""
        if not hasattr(self._local, "api"):
            self._local.api = connect(self.endpoint, timeout=self._timeout)
            self._clients.append(self._local.api)
        api: docker.APIClient = self._local.api
        return api

    def close(self) -> None:
        """Close the connections to the engine and leave the cluster running."""
        for api in self._clients:
            api.close()

    def hurry(self, error: BaseException) -> None:
        """Wait less for each further answer, if *error* is that the engine hasn't answered in time."""
        if is_silence(error):
            self._timeout = _HURRIED_TIMEOUT
            for api in self._clients:
                api.timeout = _HURRIED_TIMEOUT

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the connections to the engine if the block raises."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def machine(self) -> Machine:
        """Return the CPUs and the memory that workers can use.

        Raises
        ------
        EngineError
            The engine doesn't report them.
        """
        with engine_errors("report its CPUs and memory"):
            info = self.api.info()
        return Machine(int(info["NCPU"]), int(info["MemTotal"]))

    def create_network(self) -> str:
        """Create the cluster's network, and return its ID.

        Raises
        ------
        ClusterError
            There is a cluster of that name.
        """
        return self._make_network("bridge")

    def _make_network(self, driver: str) -> str:
        plan = self.plan
        with engine_errors(f"create the network {plan.network}"):
            if self.api.networks(names=[plan.network], filters={"label": f"{labels.CLUSTER}={plan.name}"}):
                raise ClusterError(
                    f"There is a cluster {plan.name} already.",
                    hint=f"See `imagesync cluster ls`; `imagesync cluster down {plan.name}` removes it.",
                )
            try:
                made = self.api.create_network(
                    plan.network, driver=driver, labels=plan.labels, check_duplicate=True
                )
                return str(made["Id"])
            except BaseException as error:
                self.hurry(error)
                # It may have been made all the same, and the answer lost.
                with suppress(EngineError):
                    self._remove_own_networks()
                raise

    def _remove_own_networks(self) -> None:
        plan = self.plan
        with engine_errors(f"remove the network {plan.network}"):
            for network in self.api.networks(names=[plan.network]):
                if labels_of(network) == plan.labels:
                    self.api.remove_network(network["Id"])

    def start_scheduler(self, options: SchedulerOptions, *, workers: int) -> RunningScheduler:
        """Start the scheduler's container, and wait until it listens.

        Parameters
        ----------
        options
            Options of the scheduler.
        workers
            Number of expected workers, which the dashboard waits for.

        Raises
        ------
        ClusterError
            It ends before it listens; the message has the end of its log.
        """
        try:
            return self._run_scheduler(options, workers=workers)
        except BaseException as error:
            if not self._scheduler_host.done():
                self._scheduler_host.set_exception(error)
            raise

    def _run_scheduler(self, options: SchedulerOptions, *, workers: int) -> RunningScheduler:
        api, plan = self.api, self.plan
        host = reachable_host(self.endpoint, options.host)
        joined = join_network(api, plan.network)
        ports = {
            node.PORT: (options.host, options.port or None),
            node.DASHBOARD_PORT: (options.host, options.dashboard_port or None),
        }
        container = self._create(
            SCHEDULER,
            environment=options.environment,
            mounts=options.mounts,
            engine=options.engine,
            ports=list(ports),
            host_config={"port_bindings": ports},
            aliases=[SCHEDULER],
        )
        config = scheduler_config(plan, options, workers=workers, lifeline="stdin")
        streams = self._start_scheduler(container, config)
        try:
            streams.await_ready(plan.image, timeout=START_TIMEOUT)
            if joined:
                address, dashboard = (f"{self._scheduler_host.result()}:{port}" for port in ports)
            else:
                address, dashboard = (f"{host}:{port}" for port in self._published(container, *ports))
            require_reachable(self.endpoint, address)
        except BaseException:
            streams.close()
            raise
        if plan.owner is None:
            streams.close()
        return RunningScheduler(
            container, f"{plan.protocol}://{address}", dashboard, None if plan.owner is None else streams
        )

    def _published(self, container: str, *ports: int) -> list[str]:
        """Return the engine's port for each of a container's *ports*."""
        with engine_errors("report the ports of the scheduler"):
            published = self.api.inspect_container(container)["NetworkSettings"]["Ports"]
        return [published[f"{port}/tcp"][0]["HostPort"] for port in ports]

    def find_scheduler(self, parts: Mapping[str, str]) -> str:
        """Find the scheduler of a running cluster, which new workers connect to, and return its container.

        Parameters
        ----------
        parts
            The containers of the cluster, as :meth:`parts` gives them.

        Raises
        ------
        ClusterError
            No scheduler runs.
        """
        container = parts.get(SCHEDULER)
        if container is None:
            raise ClusterError(
                f"The cluster {self.plan.name} has no scheduler any more.",
                hint=f"Remove its remains: imagesync cluster down {self.plan.name}",
            )
        with engine_errors("report the address of the scheduler"):
            self._scheduler_host.set_result(self._address_of(container))
        return container

    def start_worker(self, name: str | int, options: WorkerOptions) -> str:
        """Start a worker's container without waiting for it to join, and return the container's ID."""
        plan = self.plan
        container = self._create(
            f"worker-{name}",
            environment={**spawn_environment(), **options.environment},
            mounts=options.mounts,
            engine=options.engine,
            labels_={labels.WORKER: str(name)},
            host_config={
                "mem_limit": options.memory_limit or None,
                # No swap: spilling by Dask is faster.
                "memswap_limit": options.memory_limit or None,
                "nano_cpus": int(options.cpus * 1e9) or None,
                "device_requests": device_requests(options.gpus),
            },
        )
        self._start_worker(container, lambda host: worker_config(plan, name, options, host=host))
        return container

    def prepare(self, image: str) -> str:
        """Return the name of an image of the engine for use by containers."""
        return image

    def listen(self, network: str, notify: Callable[[Event], None]) -> EventListener | None:
        """Return a running listener to events of the cluster's containers and network."""
        return EventListener(self.endpoint, cluster=self.plan.name, network=network, notify=notify)

    def remove(self, container: str) -> None:
        """Remove a container if it exists, and wait until it is gone."""
        remove_container(self.api, container)

    def remove_everything(self) -> int:
        """Remove all resources of the cluster, and return their number."""
        found = find_resources(self.api, self.plan.name)
        remove_resources(lambda: self.api, found)
        return len(found)

    def parts(self) -> dict[str, str]:
        """Return the ID of each container by ``scheduler`` and ``worker-<name>``."""
        return {
            part_of(labels_of(entry)): entry["Id"]
            for entry in find_resources(self.api, self.plan.name).containers
        }

    def logs(self, container: str, *, tail: int | None = None) -> str:
        """Return the combined output of a container; empty if the container no longer exists."""
        try:
            with engine_errors(f"read the log of {container[:12]}"):
                written: bytes = self.api.logs(container, tail="all" if tail is None else tail)
        except EngineError as error:
            if getattr(error.__cause__, "status_code", 0) in {NOT_FOUND, CONFLICT}:
                return ""
            raise
        return written.decode(errors="replace")

    def _create(
        self,
        name: str,
        *,
        environment: Mapping[str, str],
        mounts: tuple[Mount, ...],
        engine: EngineOptions,
        host_config: Mapping[str, Any],
        labels_: Mapping[str, str] | None = None,
        ports: list[int] | None = None,
        aliases: list[str] | None = None,
    ) -> str:
        api, plan = self.api, self.plan
        role = SCHEDULER if name == SCHEDULER else "worker"
        # Unique, since the name of a container that is being removed is still taken.
        full_name = f"{plan.network}-{name}" + ("" if role == SCHEDULER else f"-{uuid4().hex[:6]}")
        with engine_errors(f"create the container {full_name}"):
            made = api.create_container(
                plan.image,
                command=["python", "-c", BOOTSTRAP],
                name=full_name,
                labels={**engine.labels, **plan.labels, labels.ROLE: role, **(labels_ or {})},
                stdin_open=True,
                ports=ports,
                host_config=api.create_host_config(
                    auto_remove=True,
                    network_mode=plan.network,
                    mounts=mount_objects(mounts),
                    **{"shm_size": engine.shm_size, **host_config, **engine.docker},
                ),
                networking_config=api.create_networking_config(
                    {plan.network: api.create_endpoint_config(aliases=aliases)}
                ),
                **run_as(self.endpoint, mounts, environment),
            )
        container = str(made["Id"])
        if engine.network:
            with self._starting(container):
                api.connect_container_to_network(container, engine.network)
        return container

    @contextmanager
    def _starting(self, container: str) -> Iterator[None]:
        """Remove a container that can't be started, with the reason in the error."""
        try:
            with engine_errors("start a container of the cluster"):
                yield
        except BaseException as error:
            # auto_remove applies to started containers only. The engine may be gone.
            self.hurry(error)
            with suppress(EngineError):
                self.remove(container)
            if isinstance(error, EngineError) and _NO_PYTHON.search(error.message):
                raise ClusterError(
                    f"There is no `python` on the PATH of {self.plan.image}, so it can't run Dask.",
                    hint="Name an image with Python and distributed; `imagesync build` makes that of your"
                    " environment.",
                ) from error
            raise

    def _start_scheduler(self, container: str, config: Mapping[str, Any]) -> SchedulerStreams:
        with self._starting(container):
            streams = SchedulerStreams(self.api, container)
            try:
                self.api.start(container)
                self._scheduler_host.set_result(self._address_of(container))
                streams.send_config(self._config_line(config))
            except BaseException:
                streams.close()
                raise
        return streams

    def _start_worker(self, container: str, make_config: Callable[[str], Mapping[str, Any]]) -> None:
        """Start a worker, and send its configuration; on Podman once the scheduler has an address."""
        with self._starting(container), Attachment(self.api, container, "stdin") as attached:
            labels.close_in_children(attached.release)
            self.api.start(container)
            # Podman's networks don't resolve names without a plug-in.
            host = self._await_scheduler_host() if is_podman(self.api.version()) else SCHEDULER
            attached.send(self._config_line(make_config(host)))

    def _await_scheduler_host(self) -> str:
        """Return the scheduler's address in the cluster's network, once its container has started."""
        try:
            return self._scheduler_host.result(timeout=START_TIMEOUT)
        except FutureTimeoutError as error:
            raise ClusterError(
                f"The scheduler's container hasn't started within {START_TIMEOUT:.0f} s.",
                hint="The engine or its disk may be busy: see its log, and try again.",
            ) from error

    def _config_line(self, config: Mapping[str, Any]) -> bytes:
        return json.dumps({**config, **common_config(self.plan)}).encode() + b"\n"

    def _address_of(self, container: str) -> str:
        """Return a container's address in the cluster's network."""
        networks = self.api.inspect_container(container)["NetworkSettings"]["Networks"]
        return str(networks[self.plan.network]["IPAddress"])
