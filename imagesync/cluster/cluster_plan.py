"""The plan of a cluster: its image, names, labels and addresses, and the configuration of its processes."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imagesync.cluster import labels
from imagesync.cluster.container_options import SchedulerOptions, WorkerOptions, check_name
from imagesync.cluster.own_container import in_container
from imagesync.core.platforms import DEFAULT_PLATFORM
from imagesync.core.terminal import make_progress
from imagesync.errors import ClusterError, RegistryError
from imagesync.standalone.cluster import node
from imagesync.standalone.programs import program_text

if TYPE_CHECKING:
    from imagesync.cluster.scheduler_streams import SchedulerStreams
    from imagesync.engine.endpoint import Endpoint
    from imagesync.engine.engine import Engine
    from imagesync.engine.run_container import Mount
    from imagesync.session import Session


SCHEDULER = "scheduler"
START_TIMEOUT = 120.0  # seconds for a scheduler to listen, and for a worker to find it
RECONNECT_TIMEOUT = 60.0  # seconds for a worker that was started again to find its scheduler
# Program and configuration come by standard input: every user of the machine can see command lines.
BOOTSTRAP = (
    "import json,sys;c=json.loads(sys.stdin.buffer.readline());"
    "exec(compile(c.pop('program'),'node.py','exec'));main(c)"
)


@dataclass(frozen=True)
class ClusterPlan:
    """The properties that all containers of a cluster share.

    Parameters
    ----------
    name
        Name of the cluster.
    image
        Reference or ID of an image of the engine.
    owner
        The process that the cluster ends with; ``None`` for a detached cluster.
    security
        Arguments of ``distributed.Security``, including certificates; empty for plain TCP.
    config
        Dask configuration in the containers.
    """

    name: str
    image: str
    owner: labels.Owner | None
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Name of the network."""
        return f"imagesync-{self.name}"

    @property
    def protocol(self) -> str:
        """Scheme of addresses."""
        return "tls" if self.security.get("require_encryption") else "tcp"

    @property
    def labels(self) -> dict[str, str]:
        """Labels of all containers and of the network."""
        return {labels.CLUSTER: self.name, labels.OWNER: "" if self.owner is None else str(self.owner)}


def make_plan(
    name: str | None, *, owner: labels.Owner | None, config: Mapping[str, Any] | None = None
) -> ClusterPlan:
    """Return the plan of a new cluster, whose image isn't known yet.

    Parameters
    ----------
    name
        Name of the cluster; random by default.
    owner, config
        As for :class:`ClusterPlan`.

    Raises
    ------
    UsageError
        The name isn't valid.
    """
    return ClusterPlan(check_name(name or secrets.token_hex(4)), "", owner, config=dict(config or {}))


@dataclass(frozen=True)
class RunningScheduler:
    """A scheduler that is listening.

    Parameters
    ----------
    container
        ID of its container or service.
    address
        Address for clients on this machine: ``tls://127.0.0.1:49153``.
    dashboard
        ``host:port`` of its dashboard.
    lifeline
        Connection that ends the scheduler when it closes; ``None`` in a detached cluster.
    """

    container: str
    address: str
    dashboard: str
    lifeline: SchedulerStreams | None = field(default=None, repr=False)


def part_of(found: Mapping[str, str]) -> str:
    """Return ``scheduler`` or ``worker-<name>``, from the labels of a container or a service."""
    return SCHEDULER if found.get(labels.ROLE) == SCHEDULER else f"worker-{found.get(labels.WORKER)}"


def common_config(plan: ClusterPlan) -> dict[str, Any]:
    """Return the configuration that all processes share: program, certificates, Dask configuration."""
    return {
        "program": program_text("cluster.node"),
        "protocol": plan.protocol,
        "security": dict(plan.security),
        "config": dict(plan.config),
    }


def scheduler_config(
    plan: ClusterPlan, options: SchedulerOptions, *, workers: int, lifeline: str
) -> dict[str, Any]:
    """Return the configuration of the scheduler, without secrets.

    Parameters
    ----------
    plan
        Plan of the cluster.
    options
        Options of the scheduler.
    workers
        Number of expected workers.
    lifeline
        How the scheduler notices the end of its client: ``stdin`` or ``heartbeat``.
    """
    return {
        "role": SCHEDULER,
        "lifeline": "" if plan.owner is None else lifeline,
        "idle_timeout": options.idle_timeout,
        "options": dict(options.dask),
        "workers": workers,
        "groups": list(options.groups),
    }


def worker_config(
    plan: ClusterPlan, name: str | int, options: WorkerOptions, *, host: str = SCHEDULER
) -> dict[str, Any]:
    """Return the configuration of a worker, without secrets; *host* is the scheduler's for its network."""
    return {
        "role": "worker",
        "scheduler": f"{plan.protocol}://{host}:{node.PORT}",
        "host": host,
        "name": name,
        "nthreads": options.nthreads,
        "memory_limit": options.memory_limit,
        "resources": dict(options.resources) or None,
        "nanny": options.nanny,
        "options": dict(options.dask),
        "death_timeout": START_TIMEOUT,
        "reconnect_timeout": RECONNECT_TIMEOUT,
    }


def spawn_environment() -> dict[str, str]:
    """Return the variables that Dask's nanny sets for a worker, such as one thread for BLAS."""
    import dask

    configured = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {str(name): str(value) for name, value in configured.items()}


def cluster_settings(session: Session | None) -> Mapping[str, str]:
    """Return the setting ``cluster`` of a session, or else of the working folder.

    Raises
    ------
    UsageError
        A setting isn't valid.
    """
    if session is not None:
        return session.context.settings.cluster
    from imagesync.settings.load import load_settings

    return load_settings(cwd=Path.cwd(), environ=os.environ, flags={}).cluster


def cluster_image(image: str | None, session: Session | None, endpoint: Endpoint) -> str:
    """Return the reference of the cluster's image, built or pulled if the engine lacks it.

    Parameters
    ----------
    image
        Reference of an image; ``None`` for the image of an environment.
    session
        Session of that environment; by default that of the current process.
    endpoint
        Address of the engine.

    Raises
    ------
    UsageError
        *image* isn't a reference.
    ImagesyncError
        The image can't be built or pulled.
    """
    if image is None:
        from imagesync.session import open_session

        session = session or open_session()
        session.warn_of_drift()
        # The engine needs the image: one that is only in a registry isn't enough.
        return session.on_engine().build(push=False, as_installed=True, outputs=("docker",)).reference
    from imagesync.core.image_reference import check_reference
    from imagesync.engine.engine import Engine

    check_reference(image, given_as="image")
    with Engine(endpoint) as engine:
        if engine.inspect(image) is None:
            _pull(image, engine)
    return image


def _pull(image: str, engine: Engine) -> None:
    """Pull an image for the engine's own platform, or for the default one if there is none for that."""
    own, progress = engine.info().platform, make_progress()
    try:
        engine.pull(image, platform=own, progress=progress)
    except RegistryError:
        if DEFAULT_PLATFORM.is_platform_of(own):
            raise
        engine.pull(image, platform=DEFAULT_PLATFORM.name, progress=progress)


CONNECT_TIMEOUT = 10.0
"""Seconds for this process to connect to a scheduler that listens."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104


def reachable_host(endpoint: Endpoint, published: str) -> str:
    """Return the host at which this machine reaches a port published at *published*.

    Raises
    ------
    ClusterError
        The engine runs on another machine and publishes on its own loopback.

    >>> from imagesync.engine.endpoint import Endpoint
    >>> reachable_host(Endpoint("unix:///var/run/docker.sock", "here"), "127.0.0.1")
    '127.0.0.1'
    >>> reachable_host(Endpoint("ssh://me@big.example:22", "DOCKER_HOST"), "0.0.0.0")
    'big.example'
    """
    engine = urlsplit(endpoint.url).hostname if endpoint.scheme in {"tcp", "ssh"} else None
    if engine is None or engine in _LOOPBACK:
        return "127.0.0.1" if published in _ANY_ADDRESS else published
    if published in _LOOPBACK:
        raise ClusterError(
            f"The engine runs on {engine}, and would publish the cluster's ports on its own loopback, which"
            " this machine can't reach.",
            hint="Publish them for other machines: host='0.0.0.0', or --host 0.0.0.0. Certificates protect"
            " the cluster there, too.",
        )
    return engine if published in _ANY_ADDRESS else published


def require_reachable(endpoint: Endpoint, scheduler: str) -> None:
    """Connect to a scheduler that listens, and end the connection.

    Parameters
    ----------
    endpoint
        Address of the engine.
    scheduler
        ``host:port``, as :func:`reachable_host` gives the host.

    Raises
    ------
    ClusterError
        Nobody answers: this process has another network than the engine, or a firewall is between them.
    """
    host, _, port = scheduler.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        hint = "Check the firewalls on the way, or publish at another address: host=, --host."
        if endpoint.socket_path is not None and in_container():
            hint = (
                "This process runs in a container, which has a loopback of its own. Give that the engine's"
                " network (`docker run --network host`), or publish at the address of its default gateway:"
                " host=, --host."
            )
        reason = (error.strerror or str(error)).lower()
        raise ClusterError(
            f"The scheduler listens at {scheduler} on the engine's machine, which this process can't reach:"
            f" {reason}.",
            hint=hint,
        ) from error


def run_as(endpoint: Endpoint, mounts: Sequence[Mount], environment: Mapping[str, str]) -> dict[str, object]:
    """Return the user and the variables of a container.

    A container with folders of this machine runs as the current user: it gets the user's permissions, and the
    user owns the files that it writes.
    """
    binds = any(mount.kind == "bind" for mount in mounts)
    if sys.platform != "linux" or endpoint.socket_path is None or not binds:
        return {"environment": dict(environment)}
    # The home folder in the image belongs to the image's user.
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "environment": {"HOME": "/tmp", **environment},  # noqa: S108
    }
