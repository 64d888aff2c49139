"""Connections to the standard streams of a container."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import docker

Stream = Literal["stdin", "stdout", "stderr"]


class Attachment:
    """A connection to standard streams of a container; as a context manager it is closed at the end.

    Parameters
    ----------
    api
        The engine's client.
    container
        Its name or ID; it needn't run yet.
    streams
        Over TLS the input needs a connection of its own: one whose sending side is closed can't be read.
    """

    def __init__(self, api: docker.APIClient, container: str, *streams: Stream) -> None:
        params = dict.fromkeys(("stream", *streams), 1)
        self._file: Any = api.attach_socket(container, params=params)
        # Over a Unix socket the SDK returns a file that can't be written to.
        self.socket: socket.socket = getattr(self._file, "_sock", self._file)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def output(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """Yield stream and content of each piece of output, until the container closes its streams."""
        from docker.utils.socket import STDOUT, frames_iter

        for number, data in frames_iter(self._file, tty=False):
            yield "stdout" if number == STDOUT else "stderr", data

    def lines(self) -> Iterator[str]:
        """Yield the lines of all streams, until the container closes them."""
        rest = b""
        for _, data in self.output():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")

    def send(self, data: bytes) -> None:
        """Send *data* to the container's standard input."""
        self.socket.sendall(data)

    def end_input(self) -> None:
        """Close the container's standard input; its output can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def disconnect(self) -> None:
        """End the connection for every process and thread that uses it."""
        with suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close this process's files of the connection, which lives on in others."""
        # Closing the file alone leaves the connection open until it is collected as garbage; over TLS,
        # closing the socket alone does, too.
        for part in (getattr(self._file, "_response", None), self._file, self.socket):
            if part is not None:
                part.close()

    def close(self) -> None:
        """End the connection, and close its files."""
        self.disconnect()
        self.release()
