"""Settings that depend on where the engine runs: addresses of ports, and the user of containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesync.errors import ClusterError

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint
    from imagesync.engine.run import Mount

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


def run_as(endpoint: Endpoint, mounts: Sequence[Mount], environment: Mapping[str, str]) -> dict[str, object]:
    """Return the user and the variables of a container.

    A container with folders of this machine runs as the current user: it gets the user's permissions, and the
    user owns the files that it writes.
    """
    local = endpoint.socket_path is not None and sys.platform == "linux"
    if not local or not any(mount.kind == "bind" for mount in mounts):
        return {"environment": dict(environment)}
    # The home folder in the image belongs to the image's user.
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "environment": {"HOME": "/tmp", **environment},  # noqa: S108
    }
