"""The plan of a cluster: its image, names and labels, and the configuration of each of its processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imagesync.cluster import labels
from imagesync.cluster.options import SchedulerOptions, WorkerOptions
from imagesync.core.terminal import make_progress
from imagesync.standalone.cluster import node
from imagesync.standalone.programs import program_text

if TYPE_CHECKING:
    from imagesync.engine.attach import Attachment
    from imagesync.engine.endpoint import Endpoint
    from imagesync.session import Session

SCHEDULER = "scheduler"
START_TIMEOUT = 120.0  # seconds for a scheduler to listen, and for a worker to find it
RECONNECT_TIMEOUT = 15.0  # seconds for a worker that was started again to find its scheduler


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
    lifeline: Attachment | None = field(default=None, repr=False)


def part_of(found: Mapping[str, str]) -> str:
    """Return ``scheduler`` or ``worker-<name>``, by the labels that it has."""
    return SCHEDULER if found.get(labels.ROLE) == SCHEDULER else f"worker-{found.get(labels.WORKER)}"


def common_config(plan: ClusterPlan) -> dict[str, Any]:
    """Return what all processes of the cluster read: program, certificates, Dask's configuration."""
    return {
        "program": program_text("cluster.node"),
        "protocol": plan.protocol,
        "security": dict(plan.security),
        "config": dict(plan.config),
    }


def scheduler_config(
    plan: ClusterPlan, options: SchedulerOptions, *, workers: int, lifeline: str
) -> dict[str, Any]:
    """Return what the scheduler reads beside; nothing in it is secret.

    Parameters
    ----------
    workers
        How many are expected.
    lifeline
        What tells that its client has gone: ``stdin`` or ``heartbeat``.
    """
    return {
        "role": SCHEDULER,
        "lifeline": "" if plan.owner is None else lifeline,
        "idle_timeout": options.idle_timeout,
        "workers": workers,
    }


def worker_config(plan: ClusterPlan, name: str | int, options: WorkerOptions) -> dict[str, Any]:
    """Return what a worker reads beside; nothing in it is secret."""
    return {
        "role": "worker",
        "scheduler": f"{plan.protocol}://{SCHEDULER}:{node.PORT}",
        "host": SCHEDULER,
        "name": name,
        "nthreads": options.nthreads,
        "memory_limit": options.memory_limit,
        "resources": dict(options.resources) or None,
        "nanny": options.nanny,
        "death_timeout": START_TIMEOUT,
        "reconnect_timeout": RECONNECT_TIMEOUT,
    }


def spawn_environment() -> dict[str, str]:
    """Return the variables that Dask's nanny would give a worker, such as one thread for each BLAS call."""
    import dask

    configured = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {str(name): str(value) for name, value in configured.items()}


def cluster_image(image: str | None, session: Session | None, endpoint: Endpoint) -> str:
    """Return the reference of an image that the engine has.

    Parameters
    ----------
    image
        What the user named, pulled if it is missing; ``None`` for that of an environment.
    session
        Which environment; by default the one that this process runs in.

    Raises
    ------
    UsageError
        *image* isn't a reference.
    ImagesyncError
        It can't be built or pulled.
    """
    if image is None:
        from imagesync.session import open_session

        session = session or open_session()
        # Here, where the containers run; an image that is only in a registry would not do.
        return session.build(push=False).reference
    from imagesync.core.image_reference import check_reference
    from imagesync.engine.engine import Engine

    check_reference(image, given_as="image")
    with Engine(endpoint) as engine:
        if engine.inspect(image) is None:
            engine.pull(image, progress=make_progress(quiet=False))
    return image
