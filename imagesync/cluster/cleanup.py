"""Listing clusters, reading their logs and removing them, by labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagesync.cluster import labels
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import SCHEDULER, ClusterPlan, part_of
from imagesync.cluster.resources import ClusterResources, Entry, find_resources, labels_of
from imagesync.errors import ClusterError
from imagesync.standalone.cluster import node

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint


@dataclass(frozen=True)
class FoundCluster:
    """A cluster found in an engine.

    Parameters
    ----------
    name
        Name of the cluster.
    image
        Reference of the image that the scheduler's container runs.
    owner
        The process that the cluster ends with; ``None`` for a detached cluster.
    scheduler
        ``host:port`` on the engine's machine; empty if no scheduler runs.
    dashboard
        ``host:port`` on the engine's machine; empty if it isn't published.
    workers
        Number of running workers.
    """

    name: str
    image: str
    owner: labels.Owner | None
    scheduler: str
    dashboard: str
    workers: int

    @property
    def is_leftover(self) -> bool:
        """Whether the cluster is unusable: its owner has ended, or a detached one has no scheduler."""
        return self.owner.has_ended if self.owner is not None else not self.scheduler

    def to_dict(self) -> dict[str, Any]:
        """Return the cluster as documented JSON (``docs/json.md``)."""
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
    """Return all clusters of an engine, sorted by name."""
    engine = ClusterEngine(endpoint, ClusterPlan("", "", None))
    try:
        found = find_resources(engine.api)
    finally:
        engine.close()
    return tuple(_describe(name, found.of(name)) for name in found.names)


def _describe(name: str, resources: ClusterResources) -> FoundCluster:
    first = (*resources.services, *resources.containers, *resources.networks, *resources.secrets)[0]
    running = [entry for entry in resources.containers if entry.get("State") == "running"]
    parts = {part_of(labels_of(entry)): entry for entry in (*running, *resources.services)}
    scheduler = parts.get(SCHEDULER, {})
    return FoundCluster(
        name=name,
        image=_image(scheduler or next(iter(parts.values()), {})),
        owner=labels.parse_owner(labels_of(first).get(labels.OWNER, "")),
        scheduler=_published(scheduler, node.PORT),
        dashboard=_published(scheduler, node.DASHBOARD_PORT),
        workers=len(parts) - (SCHEDULER in parts),
    )


def _image(entry: Entry) -> str:
    template = entry.get("Spec", {}).get("TaskTemplate", {})
    return str(entry.get("Image") or template.get("ContainerSpec", {}).get("Image", ""))


def _published(entry: Entry, port: int) -> str:
    for published in entry.get("Ports", ()):
        if published["PrivatePort"] == port and "PublicPort" in published:
            return f"{published['IP']}:{published['PublicPort']}"
    for published in entry.get("Endpoint", {}).get("Ports", ()):
        if published["TargetPort"] == port and "PublishedPort" in published:
            return f"0.0.0.0:{published['PublishedPort']}"
    return ""


def remove_cluster(name: str, endpoint: Endpoint) -> int:
    """Remove all resources of a cluster from the engine, and return their number.

    Raises
    ------
    EngineError
        The engine refuses or doesn't answer.
    """
    engine = ClusterEngine(endpoint, ClusterPlan(name, "", None))
    try:
        return engine.remove_everything()
    finally:
        engine.close()


def sweep(endpoint: Endpoint) -> tuple[str, ...]:
    """Remove clusters whose owner has ended, and return their names."""
    found = find_clusters(endpoint)
    orphaned = tuple(cluster.name for cluster in found if cluster.owner is not None and cluster.is_leftover)
    for name in orphaned:
        remove_cluster(name, endpoint)
    return orphaned


def read_logs(engine: ClusterEngine, *, tail: int | None = None) -> dict[str, str]:
    """Return the log of each container of a cluster, by ``scheduler`` and ``worker-<name>``.

    Parameters
    ----------
    engine
        Engine with the plan of the cluster.
    tail
        Number of lines of each log; all by default.

    Raises
    ------
    ClusterError
        The cluster has no container.
    """
    parts = engine.parts()
    if not parts:
        raise ClusterError(
            f"No cluster {engine.plan.name} runs.",
            hint="List the clusters: imagesync cluster ls",
        )
    return {part: engine.logs(parts[part], tail=tail) for part in sorted(parts)}


def claim_network(engine: ClusterEngine) -> str:
    """Create a cluster's network, and return its ID.

    An orphaned cluster of the same name is removed first.

    Raises
    ------
    ClusterError
        A cluster of that name is in use.
    """
    try:
        return engine.create_network()
    except ClusterError:
        if engine.plan.name not in sweep(engine.endpoint):
            raise
        return engine.create_network()
