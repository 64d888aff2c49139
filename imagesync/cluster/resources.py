"""Resources of clusters in an engine, found by labels, and their removal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagesync.cluster import labels
from imagesync.cluster.own_container import leave_network
from imagesync.engine.client import engine_errors
from imagesync.errors import EngineError

if TYPE_CHECKING:
    import docker

THREADS = 8  # requests to the engine at once
REMOVAL_TIMEOUT = 30.0  # seconds for the engine to remove ended containers
LOCAL_TIMEOUT = 5.0  # seconds to remove a network of one engine
NOT_FOUND = 404
CONFLICT = 409  # the engine is already removing it
_TASK = "com.docker.swarm.task.id"
_POLL = 0.1  # seconds; a swarm has no event for a network that is no longer used

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class ClusterResources:
    """Entries as the engine lists them, without the containers of services."""

    services: tuple[Entry, ...] = ()
    containers: tuple[Entry, ...] = ()
    networks: tuple[Entry, ...] = ()
    secrets: tuple[Entry, ...] = ()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.services) + len(self.containers) + len(self.networks) + len(self.secrets)

    def of(self, name: str) -> ClusterResources:
        """Return the resources of one cluster."""

        def select(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
            return tuple(entry for entry in entries if labels_of(entry).get(labels.CLUSTER) == name)

        return ClusterResources(
            select(self.services), select(self.containers), select(self.networks), select(self.secrets)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the clusters, sorted."""
        entries = (*self.services, *self.containers, *self.networks, *self.secrets)
        return tuple(sorted({labels_of(entry)[labels.CLUSTER] for entry in entries}))


def labels_of(entry: Entry) -> Mapping[str, str]:
    """Return the labels of an entry of any kind."""
    found: Mapping[str, str] = entry.get("Labels") or entry.get("Spec", {}).get("Labels") or {}
    return found


def find_resources(api: docker.APIClient, name: str = "") -> ClusterResources:
    """Return the resources of one cluster, or of all clusters.

    Raises
    ------
    EngineError
        The engine refuses or doesn't answer.
    """
    wanted = {"label": f"{labels.CLUSTER}={name}" if name else labels.CLUSTER}
    with engine_errors("list what belongs to clusters"):
        containers = api.containers(all=True, filters=wanted)
        return ClusterResources(
            services=_of_swarm(api.services, wanted),
            containers=tuple(entry for entry in containers if _TASK not in entry["Labels"]),
            networks=tuple(api.networks(filters=wanted)),
            secrets=_of_swarm(api.secrets, wanted),
        )


def _of_swarm(list_entries: Callable[..., list[Entry]], wanted: Mapping[str, str]) -> tuple[Entry, ...]:
    import docker.errors

    try:
        return tuple(list_entries(filters=wanted))
    except docker.errors.APIError as error:
        # 503: the engine manages no swarm. Podman has no such request.
        if error.status_code in {503, 404, 501}:
            return ()
        raise


def remove_resources(connect: Callable[[], docker.APIClient], found: ClusterResources) -> None:
    """Remove all resources that still exist, and wait until they are gone.

    Parameters
    ----------
    connect
        Returns the client of the calling thread.
    found
        The resources.

    Raises
    ------
    EngineError
        The engine refuses or doesn't answer.
    """
    import docker.errors

    api = connect()
    with engine_errors("remove the services of a cluster"):
        for service in found.services:
            with suppress(docker.errors.NotFound):
                api.remove_service(service["ID"])
        for secret in found.secrets:
            with suppress(docker.errors.NotFound):
                api.remove_secret(secret["ID"])
        if found.services:
            _await_tasks(api, found)
    if found.containers:
        with ThreadPoolExecutor(min(len(found.containers), THREADS)) as pool:
            list(pool.map(lambda entry: remove_container(connect(), entry["Id"]), found.containers))
    with engine_errors("remove the network of a cluster"):
        for network in found.networks:
            _remove_network(api, network)


def _await_tasks(api: docker.APIClient, found: ClusterResources) -> None:
    """Wait until no container of the services is left on this node; others can't be seen."""
    names = set(found.names)
    end = time.monotonic() + REMOVAL_TIMEOUT
    while time.monotonic() < end:
        containers = api.containers(all=True, filters={"label": [labels.CLUSTER, _TASK]})
        remaining = [entry for entry in containers if entry["Labels"][labels.CLUSTER] in names]
        if not remaining:
            return
        for entry in remaining:
            # A swarm keeps ended containers for some seconds.
            if entry["State"] == "exited":
                remove_container(api, entry["Id"])
        time.sleep(_POLL)


def remove_container(api: docker.APIClient, container: str) -> None:
    """Remove a container if it exists, and wait until it is gone.

    Raises
    ------
    EngineError
        The engine refuses or doesn't answer.
    """
    import docker.errors

    end = time.monotonic() + REMOVAL_TIMEOUT
    hint = f"Try `docker rm --force {container[:12]}`; if that fails too, restart the engine."
    action = f"remove the container {container[:12]}"
    with engine_errors(action, hint=hint), suppress(docker.errors.NotFound):
        while True:
            try:
                api.remove_container(container, force=True, v=True)
            except docker.errors.APIError as error:
                if error.status_code != CONFLICT or time.monotonic() > end:
                    raise
            else:
                return
            # It has just ended, and auto_remove is at work. That may fail: the next request tells.
            api.wait(container, condition="removed", timeout=REMOVAL_TIMEOUT)


def _remove_network(api: docker.APIClient, network: Entry) -> None:
    patience = REMOVAL_TIMEOUT if network.get("Scope") == "swarm" else LOCAL_TIMEOUT
    end = time.monotonic() + patience
    while not _try_to_remove(api, network, last=time.monotonic() > end):
        time.sleep(_POLL)


def _try_to_remove(api: docker.APIClient, network: Entry, *, last: bool) -> bool:
    import docker.errors

    try:
        api.remove_network(network["Id"])
    except docker.errors.APIError as error:
        if error.status_code == NOT_FOUND:
            return True
        # In use until the engine has disconnected the last container.
        if last:
            raise
        if network.get("Scope") != "swarm":
            # One that isn't removed: the client's own, or a user's.
            with suppress(EngineError):
                leave_network(api, network["Id"])
        return False
    # A swarm removes a network from its nodes with a delay.
    return network.get("Scope") != "swarm" or last
