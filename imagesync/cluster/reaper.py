"""A small process beside the client that removes the cluster when the client has died without doing so.

It waits for the end of its standard input, which the system closes for a client that was killed, too. A
network can't remove itself, and neither can a container that hangs: somebody has to outlive the client.
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
_SETTLE_TIME = 2.0  # seconds for what the client had asked for when it died to appear in the engine
_RETRY_TIME = 60.0  # seconds to go on where the engine refuses


class Reaper:
    """The process's handle, in the client.

    Parameters
    ----------
    cluster
        The cluster's name.
    endpoint
        Where its engine answers.
    """

    def __init__(self, cluster: str, endpoint: Endpoint) -> None:
        # -I: neither the working folder nor variables decide what is imported.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            # A signal that a terminal sends to all its processes, or its end, isn't meant for this one.
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
        close_in_children(self._forget)

    def dismiss(self) -> None:
        """End it: everything has been removed."""
        self._write(DONE)
        self._forget()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)

    def release(self) -> None:
        """Let it remove what is left, and go on without waiting for it."""
        self._forget()

    def _forget(self) -> None:
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
    """Wait for the client's end, and remove what it leaves; this is what the process runs.

    Parameters
    ----------
    content
        What the client has written.
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
    """Remove everything, and return whether nothing has come after it."""
    from imagesync.cluster.cleanup import remove_cluster

    while remove_cluster(cluster, endpoint):
        # A request that was on its way when the client died may still be answered.
        time.sleep(_SETTLE_TIME)
    return True
