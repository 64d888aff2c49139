"""A process beside the client that removes the cluster if the client dies without doing so.

It waits for the end of its standard input, which the system closes even if the client is killed. Networks and
hanging containers can't remove themselves, so that a process has to outlive the client.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from imagesync.cluster.labels import close_in_children
from imagesync.engine.endpoint import Endpoint, TLSMaterial

DONE = "done"
_START = (
    "import json,sys; c=json.loads(sys.stdin.readline()); sys.path[:]=c['path'];"
    "from imagesync.cluster.reaper import wait_and_remove; wait_and_remove(c)"
)
_SETTLE_TIME = 2.0  # seconds for pending requests of a dead client to appear in the engine
_RETRY_TIME = 60.0  # seconds to retry if the engine refuses


class Reaper:
    """The client's handle of the process.

    Parameters
    ----------
    cluster
        Name of the cluster.
    endpoint
        Address of its engine.
    """

    def __init__(self, cluster: str, endpoint: Endpoint) -> None:
        # -I: ignore the working folder and environment variables for imports.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            # Survive signals of the client's terminal.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._write(
            json.dumps(
                {
                    "path": [path for path in sys.path if path],
                    "cluster": cluster,
                    "endpoint": _to_dict(endpoint),
                }
            )
        )
        close_in_children(self._close_input)

    def dismiss(self) -> None:
        """End the process, since the cluster has been removed."""
        self._write(DONE)
        self._close_input()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)

    def release(self) -> None:
        """Let the process remove the rest of the cluster, without waiting for it."""
        self._close_input()

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _write(self, line: str) -> None:
        if self._process.stdin is not None:
            with suppress(OSError, ValueError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()


def _to_dict(endpoint: Endpoint) -> dict[str, Any]:
    tls = endpoint.tls
    if tls is None:
        return {"url": endpoint.url, "tls": None}
    files = {
        key: value and str(value) for key, value in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key))
    }
    return {"url": endpoint.url, "tls": {**files, "verify": tls.verify}}


def _endpoint_of(content: Mapping[str, Any]) -> Endpoint:
    from pathlib import Path

    tls = content["tls"]
    if tls is None:
        return Endpoint(content["url"], "the client")
    files = {key: None if tls[key] is None else Path(tls[key]) for key in ("ca", "cert", "key")}
    return Endpoint(content["url"], "the client", TLSMaterial(**files, verify=tls["verify"]))


def wait_and_remove(content: Mapping[str, Any]) -> None:
    """Wait until the client ends, then remove its cluster: the entry point of the process.

    Parameters
    ----------
    content
        The cluster's name and endpoint, as the client wrote them.
    """
    if sys.stdin.readline().strip() == DONE:
        return
    from imagesync.errors import ImagesyncError

    endpoint = _endpoint_of(content["endpoint"])
    end = time.monotonic() + _RETRY_TIME
    while time.monotonic() < end:
        with suppress(ImagesyncError):
            if _remove_all(content["cluster"], endpoint):
                return
        time.sleep(_SETTLE_TIME / 2)


def _remove_all(cluster: str, endpoint: Endpoint) -> bool:
    """Remove all resources until none appear any more, and return ``True``."""
    from imagesync.cluster.cleanup import remove_cluster

    while remove_cluster(cluster, endpoint):
        # The engine may still be processing a request of the dead client.
        time.sleep(_SETTLE_TIME)
    return True
