"""A connection to the standard streams of a container."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from docker.utils.socket import frames_iter

from imagesync.cluster.forks import close_in_children


class Attached:
    """A connection to streams of a container."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401  docker has no types
        self._file = file
        # Over a Unix socket the SDK hands out a file whose write side is closed to us.
        self._socket = getattr(file, "_sock", file)
        close_in_children(self._release)

    def send(self, data: bytes) -> None:
        """Send all of *data*."""
        self._socket.sendall(data)

    def lines(self) -> Iterator[str]:
        """Yield lines of both streams as they come, until the container closes them."""
        rest = b""
        for _, data in frames_iter(self._file, tty=False):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def close(self) -> None:
        """Close the connection, and what is under it."""
        with suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._release()

    def _release(self) -> None:
        for part in (getattr(self._file, "_response", None), self._file, self._socket):
            if part is not None:
                part.close()
