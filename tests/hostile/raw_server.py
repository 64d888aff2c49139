"""A server that sends bytes as it is told, at any speed and without an end."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat
from typing import Final

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
Reply = Callable[[], Iterator[bytes]]


def endless() -> Iterator[bytes]:
    """Yield an answer that never ends."""
    yield HEAD + b"Connection: close\r\n\r\n"
    yield from repeat(b"x" * 65536)


def longer_than_said(size: int) -> Reply:
    """Return an answer with *size* more bytes than a client expects."""

    def reply() -> Iterator[bytes]:
        yield HEAD + b"Connection: close\r\n\r\n" + b"x" * size

    return reply


def slow(seconds: float, *, length: int | None) -> Reply:
    """Return an answer of single bytes, with a pause between them."""
    size = b"" if length is None else b"Content-Length: %d\r\n" % length
    return _byte_by_byte(HEAD + size + b"Connection: close\r\n\r\n", b"x", seconds)


def slow_head(seconds: float) -> Reply:
    """Return an answer of a header without an end, by single bytes."""
    return _byte_by_byte(HEAD + b"X-Odd: ", b"x", seconds)


def slow_chunk(seconds: float) -> Reply:
    """Return an answer in chunks, whose size is sent by single bytes."""
    return _byte_by_byte(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0", seconds)


def _byte_by_byte(beginning: bytes, byte: bytes, seconds: float) -> Reply:
    def reply() -> Iterator[bytes]:
        yield beginning
        while True:
            yield byte
            threading.Event().wait(seconds)

    return reply


@contextmanager
def serving(reply: Reply) -> Iterator[str]:
    """Provide the URL of a server that answers every request so."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.recv(65536)
                for piece in reply():
                    self.request.sendall(piece)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
