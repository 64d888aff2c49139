"""The connection to a scheduler: its input keeps the scheduler alive, its output says when it listens."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from imagesync.cluster.labels import close_in_children
from imagesync.engine.run_container import Attachment
from imagesync.errors import EngineError
from imagesync.standalone.cluster import node

if TYPE_CHECKING:
    import docker

_TAIL = 200  # lines


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
        self._attached = Attachment(api, container, "stdin", "stdout", "stderr")
        close_in_children(self._attached.release)
        self._output: deque[str] = deque(maxlen=_TAIL)
        self._settled = threading.Event()
        self._reader = threading.Thread(
            target=self._read, daemon=True, name=f"imagesync-{container[:12]}-output"
        )
        self.is_ready = False
        """Whether the scheduler has written that it listens."""

    def send_config(self, line: bytes) -> None:
        """Send the only line of input, and read output from now on."""
        self._attached.send(line)
        # Only now: a TLS connection can't be used by two threads at once.
        self._reader.start()

    def wait(self, seconds: float) -> bool:
        """Wait until the scheduler listens or ends, at most *seconds*; return whether it did one of both."""
        return self._settled.wait(seconds)

    @property
    def output(self) -> str:
        """The last lines of output."""
        return "\n".join(self._output)

    def close(self) -> None:
        """End the connection, and with it a scheduler that has an owner."""
        self._attached.close()

    def _read(self) -> None:
        # To the end of the connection: the engine would keep what nobody reads.
        with suppress(EngineError, OSError, ValueError):
            for line in self._attached.lines():
                if line == node.READY:
                    self.is_ready = True
                    self._settled.set()
                self._output.append(line)
        self._settled.set()
