"""What clusters have in the engine: listing it, reading its logs, removing it, by labels alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagesync.cluster import labels
from imagesync.cluster.engine import SCHEDULER, ClusterEngine, ClusterPlan
from imagesync.cluster.inside import node
from imagesync.errors import ClusterError

if TYPE_CHECKING:
    from imagesync.build.endpoint import Endpoint


@dataclass(frozen=True)
class FoundCluster:
    """A cluster as the engine knows it.

    Parameters
    ----------
    image
        As its scheduler's container names it.
    owner
        The process that it ends with; ``None`` for one that outlives whoever started it.
    scheduler
        ``host:port`` on the engine's machine; empty where no scheduler runs.
    dashboard
        Likewise.
    workers
        Running containers.
    """

    name: str
    image: str
    owner: labels.Owner | None
    scheduler: str
    dashboard: str
    workers: int

    @property
    def is_leftover(self) -> bool:
        """Return whether nobody can use it any more: its owner has gone, or its scheduler has."""
        return self.owner.is_gone if self.owner is not None else not self.scheduler

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON (``docs/json.md``)."""
        return {
            "name": self.name,
            "image": self.image,
            "owner": None if self.owner is None else {"host": self.owner.host, "pid": self.owner.pid},
            "leftover": self.is_leftover,
            "scheduler": self.scheduler,
            "dashboard": self.dashboard,
            "workers": self.workers,
        }


def find_clusters(endpoint: Endpoint) -> tuple[FoundCluster, ...]:
    """Return all clusters of an engine, by name."""
    engine = ClusterEngine(endpoint, ClusterPlan("", "", None))
    try:
        containers, networks = engine.everything()
    finally:
        engine.close()
    names = {entry["Labels"][labels.CLUSTER] for entry in (*containers, *networks)}
    return tuple(_found(name, containers, networks) for name in sorted(names))


def _found(name: str, containers: list[Mapping[str, Any]], networks: list[Mapping[str, Any]]) -> FoundCluster:
    entries = [entry for entry in (*containers, *networks) if entry["Labels"][labels.CLUSTER] == name]
    running = [entry for entry in entries if entry.get("State") == "running"]
    schedulers = [entry for entry in running if entry["Labels"].get(labels.ROLE) == SCHEDULER]
    ports = {port["PrivatePort"]: port for entry in schedulers for port in entry["Ports"]}
    return FoundCluster(
        name=name,
        image=next((entry["Image"] for entry in schedulers or entries if "Image" in entry), ""),
        owner=labels.parse_owner(entries[0]["Labels"].get(labels.OWNER, "")),
        scheduler=_published(ports.get(node.PORT)),
        dashboard=_published(ports.get(node.DASHBOARD_PORT)),
        workers=sum(entry["Labels"].get(labels.ROLE) != SCHEDULER for entry in running),
    )


def _published(port: Mapping[str, Any] | None) -> str:
    return f"{port['IP']}:{port['PublicPort']}" if port is not None and "PublicPort" in port else ""


def remove_cluster(name: str, endpoint: Endpoint) -> int:
    """Remove a cluster's containers and its network, and return how many of them there were.

    Raises
    ------
    EngineError
        The engine refuses, or doesn't answer.
    """
    engine = ClusterEngine(endpoint, ClusterPlan(name, "", None))
    try:
        return engine.remove_everything()
    finally:
        engine.close()


def sweep(endpoint: Endpoint) -> tuple[str, ...]:
    """Remove the clusters whose owner has gone, and return their names."""
    found = find_clusters(endpoint)
    gone = tuple(cluster.name for cluster in found if cluster.owner is not None and cluster.is_leftover)
    for name in gone:
        remove_cluster(name, endpoint)
    return gone


def read_logs(engine: ClusterEngine, *, tail: int | None = None) -> dict[str, str]:
    """Return what each container of a cluster has written: by ``scheduler`` and ``worker-<name>``.

    Parameters
    ----------
    tail
        How many lines of each; all if not given.

    Raises
    ------
    ClusterError
        No container of the cluster is there.
    """
    containers, _ = engine.everything()
    if not containers:
        raise ClusterError(
            f"There are no containers of a cluster {engine.plan.name}.",
            hint="See which there are: imagesync cluster ls",
        )
    names = {
        SCHEDULER
        if entry["Labels"].get(labels.ROLE) == SCHEDULER
        else f"worker-{entry['Labels'][labels.WORKER]}": entry["Id"]
        for entry in containers
    }
    return {name: engine.logs(names[name], tail=tail) for name in sorted(names)}


def claim_network(engine: ClusterEngine) -> str:
    """Make a cluster's network, and return its ID; where a dead cluster has the name, that one goes first.

    Raises
    ------
    ClusterError
        There is a living cluster of that name.
    """
    try:
        return engine.create_network()
    except ClusterError:
        if engine.plan.name not in sweep(engine.endpoint):
            raise
        return engine.create_network()
