"""A cluster's containers and network in the engine, through the Docker SDK."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import docker
import docker.errors
import docker.types

from imagesync.build.client import connect, engine_errors
from imagesync.cluster import labels
from imagesync.cluster.attached import Attached
from imagesync.cluster.host import reachable_host, run_as
from imagesync.cluster.inside import node
from imagesync.cluster.options import SchedulerOptions, WorkerOptions, device_requests
from imagesync.errors import ClusterError, EngineError

if TYPE_CHECKING:
    from imagesync.build.endpoint import Endpoint
    from imagesync.build.engine import Mount

SCHEDULER = "scheduler"
START_TIMEOUT = 120.0  # seconds for a scheduler to listen, and for a worker to find it
RECONNECT_TIMEOUT = 15.0  # seconds for a worker that was started again to find its scheduler
THREADS = 8  # requests to the engine at once
REMOVAL_TIMEOUT = 30.0  # seconds for the engine to remove a container that has ended
CONFLICT = 409  # the engine's answer where it is at the same thing already
_TAIL = 200  # lines
# Reads its program and configuration: what is on the command line is seen by everybody on the machine.
_BOOTSTRAP = (
    "import json,sys;c=json.loads(sys.stdin.buffer.readline());"
    "exec(compile(c.pop('program'),'node.py','exec'));main(c)"
)


@dataclass(frozen=True)
class ClusterPlan:
    """What all containers of a cluster have in common.

    Parameters
    ----------
    image
        A reference or an ID that the engine has.
    owner
        The process that the cluster ends with; ``None`` for one that outlives whoever starts it.
    security
        The arguments of ``distributed.Security``, certificates included; empty for plain TCP.
    config
        Dask's configuration in the containers.
    """

    name: str
    image: str
    owner: labels.Owner | None
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Return the network's name."""
        return f"imagesync-{self.name}"

    @property
    def protocol(self) -> str:
        """Return the scheme of addresses."""
        return "tls" if self.security.get("require_encryption") else "tcp"

    @property
    def labels(self) -> dict[str, str]:
        """Return what containers and network are found by."""
        return {labels.CLUSTER: self.name, labels.OWNER: "" if self.owner is None else str(self.owner)}


@dataclass(frozen=True)
class RunningScheduler:
    """A scheduler that listens.

    Parameters
    ----------
    address
        As clients on this machine reach it: ``tls://127.0.0.1:49153``.
    dashboard
        ``host:port`` of its dashboard.
    lifeline
        The connection whose end ends the scheduler; ``None`` for one that outlives its client.
    """

    container: str
    address: str
    dashboard: str
    lifeline: Attached | None = field(default=None, repr=False)


class ClusterEngine:
    """Makes and removes what belongs to one cluster; several threads may do so at once.

    Parameters
    ----------
    endpoint
        Where the engine answers.
    """

    def __init__(self, endpoint: Endpoint, plan: ClusterPlan) -> None:
        self.endpoint = endpoint
        self.plan = plan
        self._clients: list[docker.APIClient] = []
        self._local = threading.local()

    @property
    def api(self) -> docker.APIClient:
        """Return this thread's client: that of the SDK isn't made for several threads."""
        if not hasattr(self._local, "api"):
            self._local.api = connect(self.endpoint)
            self._clients.append(self._local.api)
        api: docker.APIClient = self._local.api
        return api

    def close(self) -> None:
        """Close the connections; the cluster stays."""
        for api in self._clients:
            api.close()

    def create_network(self) -> str:
        """Make the cluster's network, and return its ID.

        Raises
        ------
        ClusterError
            There is a cluster of that name.
        """
        plan = self.plan
        with engine_errors(f"make the network {plan.network}"):
            if self.api.networks(names=[plan.network], filters={"label": f"{labels.CLUSTER}={plan.name}"}):
                raise ClusterError(
                    f"There is a cluster {plan.name} already.",
                    hint=f"See `imagesync cluster ls`; `imagesync cluster down {plan.name}` removes it.",
                )
            made = self.api.create_network(
                plan.network, driver="bridge", labels=plan.labels, check_duplicate=True
            )
        return str(made["Id"])

    def start_scheduler(self, options: SchedulerOptions, *, workers: int) -> RunningScheduler:
        """Start the scheduler's container, and return once it listens.

        Parameters
        ----------
        workers
            How many are expected: the dashboard waits for them.

        Raises
        ------
        ClusterError
            It ends before it listens; the message has the end of its log.
        """
        api, plan = self.api, self.plan
        host = reachable_host(self.endpoint, options.host)
        ports = {
            node.PORT: (options.host, options.port or None),
            node.DASHBOARD_PORT: (options.host, options.dashboard_port or None),
        }
        container = self._create(
            SCHEDULER,
            environment=options.environment,
            mounts=options.mounts,
            ports=list(ports),
            host_config={"port_bindings": ports},
            aliases=[SCHEDULER],
        )
        config = {
            "role": SCHEDULER,
            "lifeline": plan.owner is not None,
            "idle_timeout": options.idle_timeout,
            "workers": workers,
        }
        with self._output(container) as lines:
            lifeline = self._start(container, config)
            try:
                self._await_ready(container, lines)
                with engine_errors("say where the scheduler is"):
                    published = api.inspect_container(container)["NetworkSettings"]["Ports"]
            except BaseException:
                lifeline.close()
                raise
        address, dashboard = (f"{host}:{published[f'{port}/tcp'][0]['HostPort']}" for port in ports)
        if plan.owner is None:
            lifeline.close()
        return RunningScheduler(
            container, f"{plan.protocol}://{address}", dashboard, None if plan.owner is None else lifeline
        )

    def start_worker(self, name: str | int, options: WorkerOptions) -> str:
        """Start a worker's container, and return its ID; the worker joins when its imports are done."""
        container = self._create(
            f"worker-{name}",
            environment={**_spawn_environment(), **options.environment},
            mounts=options.mounts,
            labels_={labels.WORKER: str(name)},
            host_config={
                "mem_limit": options.memory_limit or None,
                # Without swap: what is swapped out is slower than what Dask spills.
                "memswap_limit": options.memory_limit or None,
                "nano_cpus": int(options.cpus * 1e9) or None,
                "device_requests": device_requests(options.gpus),
            },
        )
        config = {
            "role": "worker",
            "scheduler": f"{self.plan.protocol}://{SCHEDULER}:{node.PORT}",
            "host": SCHEDULER,
            "name": name,
            "nthreads": options.nthreads,
            "memory_limit": options.memory_limit,
            "resources": dict(options.resources) or None,
            "nanny": options.nanny,
            "death_timeout": START_TIMEOUT,
            "reconnect_timeout": RECONNECT_TIMEOUT,
        }
        self._start(container, config).close()
        return container

    def remove(self, container: str) -> None:
        """Remove a container, and return once it has gone; one that has gone already is fine."""
        api = self.api
        with engine_errors(f"remove the container {container[:12]}"), suppress(docker.errors.NotFound):
            try:
                api.remove_container(container, force=True, v=True)
            except docker.errors.APIError as error:
                if error.status_code != CONFLICT:
                    raise
                # It ended meanwhile, and the engine is removing it by itself.
                api.wait(container, condition="removed", timeout=REMOVAL_TIMEOUT)

    def remove_everything(self) -> int:
        """Remove all containers, then the network, and return how many of them there were."""
        containers, networks = self.everything()
        if containers:
            with ThreadPoolExecutor(min(len(containers), THREADS)) as pool:
                list(pool.map(self.remove, [entry["Id"] for entry in containers]))
        with engine_errors(f"remove the network of {self.plan.name}"):
            for network in networks:
                with suppress(docker.errors.NotFound):
                    self.api.remove_network(network["Id"])
        return len(containers) + len(networks)

    def everything(self) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """Return containers and networks as the engine lists them; of all clusters if the plan names none."""
        wanted = {"label": f"{labels.CLUSTER}={self.plan.name}" if self.plan.name else labels.CLUSTER}
        with engine_errors("list what belongs to clusters"):
            return self.api.containers(all=True, filters=wanted), self.api.networks(filters=wanted)

    def logs(self, container: str, *, tail: int | None = None) -> str:
        """Return what a container has written, both streams together; nothing of one that has gone."""
        with engine_errors(f"read the log of {container[:12]}"), suppress(docker.errors.NotFound):
            written: bytes = self.api.logs(container, tail="all" if tail is None else tail)
            return written.decode(errors="replace")
        return ""

    def _create(
        self,
        name: str,
        *,
        environment: Mapping[str, str],
        mounts: tuple[Mount, ...],
        host_config: Mapping[str, Any],
        labels_: Mapping[str, str] | None = None,
        ports: list[int] | None = None,
        aliases: list[str] | None = None,
    ) -> str:
        api, plan = self.api, self.plan
        role = SCHEDULER if name == SCHEDULER else "worker"
        # A name of its own: that of a container which is being removed is still taken.
        full_name = f"{plan.network}-{name}" + ("" if role == SCHEDULER else f"-{uuid4().hex[:6]}")
        with engine_errors(f"make the container {full_name}"):
            made = api.create_container(
                plan.image,
                command=["python", "-c", _BOOTSTRAP],
                name=full_name,
                labels={**plan.labels, labels.ROLE: role, **(labels_ or {})},
                stdin_open=True,
                ports=ports,
                host_config=api.create_host_config(
                    auto_remove=True,
                    network_mode=plan.network,
                    mounts=[
                        docker.types.Mount(
                            mount.target, mount.source, type=mount.kind, read_only=mount.read_only
                        )
                        for mount in mounts
                    ],
                    **host_config,
                ),
                networking_config=api.create_networking_config(
                    {plan.network: api.create_endpoint_config(aliases=aliases)}
                ),
                **run_as(self.endpoint, mounts, environment),
            )
        return str(made["Id"])

    def _start(self, container: str, config: Mapping[str, Any]) -> Attached:
        """Start a container, hand it its configuration, and return the connection to its standard input."""
        content = {
            **config,
            "program": Path(node.__file__).read_text("utf-8"),
            "protocol": self.plan.protocol,
            "security": dict(self.plan.security),
            "config": dict(self.plan.config),
        }
        attached = None
        try:
            with engine_errors("start a container of the cluster"):
                attached = Attached(self.api.attach_socket(container, params={"stdin": 1, "stream": 1}))
                self.api.start(container)
                attached.send(json.dumps(content).encode() + b"\n")
        except BaseException as error:
            if attached is not None:
                attached.close()
            # What was never started isn't removed by the engine itself.
            self.remove(container)
            if isinstance(error, EngineError) and '"python"' in error.message:
                error.hint = f"There is no `python` on the PATH of {self.plan.image}, so no Dask either."
            raise
        return attached

    @contextmanager
    def _output(self, container: str) -> Iterator[Iterator[str]]:
        with engine_errors("attach to the scheduler"):
            attached = Attached(
                self.api.attach_socket(container, params={"stdout": 1, "stderr": 1, "stream": 1})
            )
        with closing(attached):
            yield attached.lines()

    def _await_ready(self, container: str, lines: Iterator[str]) -> None:
        said: list[str] = []
        for line in lines:
            if line == node.READY:
                return
            said.append(line)
        self.remove(container)
        raise ClusterError(
            "The scheduler ended before it listened:\n" + "\n".join(said[-_TAIL:]),
            hint="See that `distributed` is in the image: imagesync run -- python -m pip list",
        )


def _spawn_environment() -> dict[str, str]:
    """Return the variables that Dask's nanny would give a worker, such as one thread for each BLAS call."""
    import dask

    configured = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {str(name): str(value) for name, value in configured.items()}
