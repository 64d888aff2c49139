"""The container that this process runs in, if it is one of the engine's: a dev container, a job of CI."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.engine.client import engine_errors
from imagesync.errors import EngineError

if TYPE_CHECKING:
    import docker

# Docker and Podman make one of these in each container.
_MARKERS = ("/.dockerenv", "/run/.containerenv")
# Of the engine's files mounted in each container, and of control groups of version 1.
_SOURCES = ("/proc/self/mountinfo", "/proc/self/cgroup")
_ID = re.compile(r"[/-]([0-9a-f]{64})(?:[/.]|$)", re.MULTILINE)


def in_container() -> bool:
    """Return True if this process runs in a container of Docker or Podman."""
    return any(map(os.path.exists, _MARKERS))


def join_network(api: docker.APIClient, network: str) -> bool:
    """Connect the container of this process to a network of the engine.

    Ports published on loopback of the engine's machine can't be reached from a container.

    Parameters
    ----------
    api
        The engine's client.
    network
        Name of the network.

    Returns
    -------
    bool
        Whether this process is in the network now; not if its container is another engine's, has the
        machine's own network, or can't be connected.
    """
    if not in_container():
        return False
    container = _own_container(api)
    if container is None:
        return False
    with suppress(EngineError), engine_errors(f"connect this container to {network}"):
        api.connect_container_to_network(container, network)
        return True
    return False


def leave_network(api: docker.APIClient, network: str) -> None:
    """Disconnect every container from a network that is to be removed."""
    with engine_errors(f"disconnect the containers of {network}"):
        for container in api.inspect_network(network).get("Containers") or {}:
            api.disconnect_container_from_network(container, network, force=True)


def has_own_network(mode: str) -> bool:
    """Return True if a container with this ``NetworkMode`` can join further networks.

    >>> has_own_network("host"), has_own_network("container:0123abcd")
    (False, False)
    >>> has_own_network("hosting_default")
    True
    """
    return mode not in {"host", "none"} and not mode.startswith(("container:", "ns:"))


def _own_container(api: docker.APIClient) -> str | None:
    """Return the ID of this process's container, unless that has no network of its own."""
    import docker.errors

    for identifier in _candidates():
        with engine_errors("describe this process's container"), suppress(docker.errors.APIError):
            found = api.inspect_container(identifier)
            mode = str(found["HostConfig"].get("NetworkMode", ""))
            return str(found["Id"]) if has_own_network(mode) else None
    return None


def _candidates() -> Iterator[str]:
    for source in _SOURCES:
        with suppress(OSError):
            yield from dict.fromkeys(_ID.findall(Path(source).read_text("utf-8", "replace")))
    # Docker's default for a container's host name is the beginning of its ID.
    if re.fullmatch(r"[0-9a-f]{12}", socket.gethostname()):
        yield socket.gethostname()
