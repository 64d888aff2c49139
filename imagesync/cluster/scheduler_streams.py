"""The connection to a scheduler: its input keeps the scheduler alive, its output says when it listens."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from imagesync.cluster.labels import close_in_children
from imagesync.core.text import log_end
from imagesync.engine.client import engine_errors
from imagesync.engine.run_container import Attachment
from imagesync.errors import ClusterError, EngineError
from imagesync.standalone.cluster import node

if TYPE_CHECKING:
    import docker

_TAIL = 200  # lines
_SILENCE = 3.0  # seconds without output, after which the log is read


class SchedulerStreams:
    """All standard streams of a container that is about to start, by one connection.

    One, since Podman closes a container's input when any connection to its streams ends.

    Parameters
    ----------
    api
        The engine's client.
    container
        ID of the container.
    """

    def __init__(self, api: docker.APIClient, container: str) -> None:
        self._api, self._container = api, container
        self._attached = Attachment(api, container, "stdin", "stdout", "stderr")
        close_in_children(self._attached.release)
        self._output: deque[str] = deque(maxlen=_TAIL)
        self._settled = threading.Event()
        self._reader = threading.Thread(
            target=self._read, daemon=True, name=f"imagesync-{container[:12]}-output"
        )
        self._is_ready = False

    def send_config(self, line: bytes) -> None:
        """Send the only line of input, and read output from now on."""
        self._attached.send(line)
        # Only now: a TLS connection can't be used by two threads at once.
        self._reader.start()

    def await_ready(self, image: str, *, timeout: float) -> None:
        """Wait until the scheduler listens.

        Parameters
        ----------
        image
            Reference of the cluster's image, for the hint.
        timeout
            In seconds.

        Raises
        ------
        ClusterError
            It ends, or doesn't listen in time; the message has the end of its log.
        """
        end = time.monotonic() + timeout
        # Docker 20.10 on a busy machine was seen to attach without ever sending a byte; its log has them.
        while not (settled := self._settled.wait(_SILENCE)):
            logged = self._log()
            if node.READY in logged:  # not always as a line: Podman logs what both streams say in pieces
                return
            if time.monotonic() > end:
                self._output = deque(logged.splitlines())
                break
        if self._is_ready:
            return
        said = "ended before it listened" if settled else f"hasn't listened for {timeout:.0f} s"
        log = "\n".join(self._output)
        raise ClusterError(
            f"The scheduler {said}:{log_end(log)}",
            hint="Check that `distributed` is in the image:"
            f" docker run --rm {image} python -c 'import distributed'",
        )

    def _log(self) -> str:
        with engine_errors("read the log of the scheduler"):
            written: bytes = self._api.logs(self._container, tail=_TAIL)
        return written.decode(errors="replace")

    def close(self) -> None:
        """End the connection, and with it a scheduler that has an owner."""
        self._attached.close()

    def _read(self) -> None:
        # To the end of the connection: the engine would keep what nobody reads.
        with suppress(EngineError, OSError, ValueError):
            for line in self._attached.lines():
                if line == node.READY:
                    self._is_ready = True
                    self._settled.set()
                self._output.append(line)
        self._settled.set()
