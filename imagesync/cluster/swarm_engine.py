"""Services, secret and network of a cluster in a Docker Swarm, by the Docker SDK."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
import docker.types

from imagesync.cluster import labels
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import (
    SCHEDULER,
    START_TIMEOUT,
    ClusterPlan,
    RunningScheduler,
    common_config,
    part_of,
    reachable_host,
    require_reachable,
    scheduler_config,
    spawn_environment,
    worker_config,
)
from imagesync.cluster.container_options import Machine, SchedulerOptions, WorkerOptions
from imagesync.cluster.events import Event, EventListener
from imagesync.cluster.resources import find_resources, labels_of
from imagesync.core.image_reference import repository_of
from imagesync.core.text import log_end
from imagesync.engine.client import engine_errors
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.run_options import mount_objects
from imagesync.errors import ClusterError
from imagesync.standalone.cluster import node

_SECRET = "imagesync.json"  # noqa: S105  a file name
_BOOTSTRAP = (
    f"import json,sys;c={{**json.load(open('/run/secrets/{_SECRET}')),**json.loads(sys.argv[1])}};"
    "exec(compile(c.pop('program'),'node.py','exec'));main(c)"
)
_POLL = 0.2  # seconds; a swarm has no events for tasks
_STOP_GRACE = 5_000_000_000  # nanoseconds
_ENDED = ("failed", "rejected", "orphaned", "complete")


@dataclass(frozen=True)
class Placement:
    """Constraints and reservations by which a swarm places workers.

    Parameters
    ----------
    constraints
        As ``docker service create --constraint``: ``node.labels.disk==ssd``.
    cpus, memory
        CPUs and bytes reserved for each worker.
    """

    constraints: tuple[str, ...] = ()
    cpus: float = 0
    memory: int = 0


class SwarmEngine(ClusterEngine):
    """Creates and removes the services, the secret and the network of one cluster.

    Each worker is a service of one replica: a swarm itself chooses the replicas to stop, but a worker has to
    hand over its results first.

    Parameters
    ----------
    endpoint
        Address of an engine that manages the swarm.
    plan
        Name, owner, image and security of the cluster.
    placement
        Constraints and reservations of workers.
    """

    def __init__(self, endpoint: Endpoint, plan: ClusterPlan, placement: Placement) -> None:
        super().__init__(endpoint, plan)
        self.placement = placement
        self._network = ""
        self._secret = ""
        self._secret_lock = threading.Lock()

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return the nodes that are ready for tasks.

        Raises
        ------
        ClusterError
            The engine manages no swarm.
        """
        try:
            with engine_errors("list the nodes of the swarm"):
                found = self.api.nodes()
        except Exception as error:
            if isinstance(error.__cause__, docker.errors.APIError) and error.__cause__.status_code == 503:
                raise ClusterError(
                    "The engine manages no swarm.",
                    hint="Create one with `docker swarm init`, or choose a manager by DOCKER_HOST.",
                ) from error
            raise
        return [
            entry
            for entry in found
            if entry["Status"]["State"] == "ready" and entry["Spec"]["Availability"] == "active"
        ]

    def machine(self) -> Machine:
        """Return the CPUs and the memory of all nodes together.

        Raises
        ------
        ClusterError
            The engine manages no swarm.
        """
        resources = [entry["Description"]["Resources"] for entry in self.nodes()]
        return Machine(
            cpus=sum(int(each["NanoCPUs"]) for each in resources) // 10**9,
            memory=sum(int(each["MemoryBytes"]) for each in resources),
        )

    def prepare(self, image: str) -> str:
        """Return the image by its digest in a registry; a single node can use a local name.

        Raises
        ------
        ClusterError
            Other nodes can't pull the image.
        """
        with engine_errors(f"look at the image {image}"):
            digests = self.api.inspect_image(image).get("RepoDigests") or []
        repository = repository_of(image)
        digests.sort(key=lambda digest: not digest.startswith(f"{repository}@"))
        if digests:
            return str(digests[0])
        with engine_errors("say which node it is"):
            this_node = self.api.info()["Swarm"]["NodeID"]
        if any(entry["ID"] != this_node for entry in self.nodes()):
            raise ClusterError(
                f"{image} isn't in a registry that the nodes of the swarm can pull from.",
                hint="imagesync build --push, with a `repository` that names a registry.",
            )
        return image

    def create_network(self) -> str:
        """Create the cluster's overlay network, and return its ID."""
        self._network = self._make_network("overlay")
        return self._network

    def listen(self, network: str, notify: Callable[[Event], None]) -> EventListener | None:
        """Return ``None``: the swarm restarts failed tasks itself."""
        return None

    def start_scheduler(self, options: SchedulerOptions, *, workers: int) -> RunningScheduler:
        """Start the scheduler's service, and wait until it listens.

        Raises
        ------
        ClusterError
            It ends before it listens; the message has the end of its log.
        """
        ports = [_port(node.PORT, options.port)]
        if options.dashboard_port:
            ports.append(_port(node.DASHBOARD_PORT, options.dashboard_port))
        service = self._create_service(
            SCHEDULER,
            scheduler_config(self.plan, options, workers=workers, lifeline="heartbeat"),
            container={"env": dict(options.environment), "mounts": _mounts(options)},
            labels_=options.engine.labels,
            # A restarted scheduler would have lost its state.
            restart=docker.types.RestartPolicy(condition="none"),
            ports=ports,
        )
        task = self._await_scheduler(service)
        host = self._host_of(task)
        addresses = {
            target: f"{host}:{port}"
            for target, port in _published(task["Status"]["PortStatus"]["Ports"]).items()
        }
        require_reachable(self.endpoint, addresses[node.PORT])
        return RunningScheduler(
            service,
            f"{self.plan.protocol}://{addresses[node.PORT]}",
            addresses.get(node.DASHBOARD_PORT, ""),
        )

    def start_worker(self, name: str | int, options: WorkerOptions) -> str:
        """Start a worker's service without waiting for it to join, and return the service's ID."""
        placement = self.placement
        return self._create_service(
            f"worker-{name}",
            # A swarm starts again what fails: this is for the client to decide.
            {**worker_config(self.plan, name, options), "final_code": 0},
            container={
                "env": {**spawn_environment(), **options.environment},
                "mounts": _mounts(options),
            },
            labels_={**options.engine.labels, labels.WORKER: str(name)},
            restart=docker.types.RestartPolicy(condition="on-failure", delay=1_000_000_000),
            resources=docker.types.Resources(
                cpu_limit=int(options.cpus * 1e9) or None,
                mem_limit=options.memory_limit or None,
                cpu_reservation=int(placement.cpus * 1e9) or None,
                mem_reservation=placement.memory or None,
                generic_resources={"gpu": int(options.gpus)} if options.gpus else None,
            ),
            constraints=list(placement.constraints),
        )

    def remove(self, container: str) -> None:
        """Remove a service if it exists."""
        with engine_errors(f"remove the service {container}"), suppress(docker.errors.NotFound):
            self.api.remove_service(container)

    def parts(self) -> dict[str, str]:
        """Return the ID of each service by ``scheduler`` and ``worker-<name>``."""
        found = find_resources(self.api, self.plan.name).services
        return {part_of(labels_of(entry)): entry["ID"] for entry in found}

    def logs(self, container: str, *, tail: int | None = None) -> str:
        """Return the combined output of a service's tasks."""
        with engine_errors("read the log of a service"), suppress(docker.errors.NotFound):
            written = self.api.service_logs(
                container, stdout=True, stderr=True, tail="all" if tail is None else tail, is_tty=False
            )
            return b"".join(written).decode(errors="replace")
        return ""

    def _shared_secret(self) -> docker.types.SecretReference:
        """Return the swarm secret with program and certificates, created on first use."""
        plan = self.plan
        name = f"{plan.network}-{_SECRET}"
        with self._secret_lock:
            if not self._secret:
                with engine_errors(f"make the secret {name}"):
                    made = self.api.create_secret(name, json.dumps(common_config(plan)).encode(), plan.labels)
                self._secret = str(made["ID"])
        return docker.types.SecretReference(self._secret, name, filename=_SECRET)

    def _create_service(
        self,
        name: str,
        config: Mapping[str, Any],
        *,
        container: Mapping[str, Any],
        restart: docker.types.RestartPolicy,
        labels_: Mapping[str, str],
        ports: list[dict[str, Any]] | None = None,
        resources: docker.types.Resources | None = None,
        constraints: list[str] | None = None,
    ) -> str:
        plan = self.plan
        role = SCHEDULER if name == SCHEDULER else "worker"
        service_labels = {**labels_, **plan.labels, labels.ROLE: role}
        with engine_errors(f"create the service {plan.network}-{name}"):
            task = docker.types.TaskTemplate(
                docker.types.ContainerSpec(
                    plan.image,
                    args=["python", "-c", _BOOTSTRAP, json.dumps(config)],
                    labels=service_labels,
                    secrets=[self._shared_secret()],
                    stop_grace_period=_STOP_GRACE,
                    **container,
                ),
                resources=resources,
                restart_policy=restart,
                placement=docker.types.Placement(constraints=constraints),
                networks=[docker.types.NetworkAttachmentConfig(self._network, aliases=[name])],
            )
            made = self.api.create_service(
                task,
                name=f"{plan.network}-{name}",
                labels=service_labels,
                mode=docker.types.ServiceMode("replicated", replicas=1),
                # DNS round-robin: a virtual IP drops idle connections and needs a kernel with IPVS.
                endpoint_spec=docker.types.EndpointSpec(mode="dnsrr", ports=ports),
            )
        return str(made["ID"])

    def _host_of(self, task: Mapping[str, Any]) -> str:
        """Return the address of the node that a task runs on."""
        with engine_errors("report the ports of the scheduler"):
            if task["NodeID"] == self.api.info()["Swarm"]["NodeID"]:
                return reachable_host(self.endpoint, "0.0.0.0")  # noqa: S104  a swarm publishes on all addresses
            return str(self.api.inspect_node(task["NodeID"])["Status"]["Addr"])

    def _await_scheduler(self, service: str) -> Mapping[str, Any]:
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            with engine_errors("report the state of the scheduler's task"):
                tasks = self.api.tasks(filters={"service": service})
            running = [task for task in tasks if task["Status"]["State"] == "running"]
            if running and node.READY in self.logs(service).splitlines():
                found: Mapping[str, Any] = running[0]
                return found
            ended = [task["Status"] for task in tasks if task["Status"]["State"] in _ENDED]
            if ended:
                raise ClusterError(
                    f"The scheduler ended before it listened: {ended[0].get('Err') or ended[0]['State']}"
                    + log_end(self.logs(service, tail=200)),
                    hint="Check that `distributed` is in the image, and that all nodes can pull it.",
                )
            time.sleep(_POLL)
        raise ClusterError(
            f"No node of the swarm started the scheduler within {START_TIMEOUT:.0f} s.",
            hint=f"docker service ps --no-trunc imagesync-{self.plan.name}-{SCHEDULER}",
        )


def _mounts(options: SchedulerOptions | WorkerOptions) -> list[docker.types.Mount]:
    # A service has no option for its shared memory.
    shared_memory = docker.types.Mount("/dev/shm", None, type="tmpfs", tmpfs_size=options.engine.shm_size)  # noqa: S108
    return [*mount_objects(options.mounts), shared_memory]


def _published(ports: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return the published port of each of a task's ports.

    Each port is listed for IPv4 first and then for IPv6. Engines before 23 choose the two independently, so
    that they may differ.

    >>> _published([{"TargetPort": 8786, "PublishedPort": port} for port in (32769, 32768)])
    {8786: 32769}
    """
    return {port["TargetPort"]: port["PublishedPort"] for port in reversed(ports)}


def _port(target: int, published: int) -> dict[str, Any]:
    port = {"Protocol": "tcp", "TargetPort": target, "PublishMode": "host"}
    return {**port, "PublishedPort": published} if published else port
