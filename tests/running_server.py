"""A local server that answers in a thread of its own while a ``with`` block runs."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Self


class RunningServer:
    """Starts *server* at the beginning of the block, and stops it at its end.

    Parameters
    ----------
    server
        Bound to its port already.
    """

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._running = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.shutdown()
        self._running.server_close()
        self._thread.join()


class JSONHandler(BaseHTTPRequestHandler):
    """Answers requests with JSON, without a log."""

    def answer(self, value: object) -> None:
        """Send *value* as the response."""
        body = json.dumps(value).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def read_chunks(stream: BinaryIO) -> bytes:
    """Return the body of a request that comes in chunks (RFC 9112, section 7.1)."""
    chunks = []
    while size := int(stream.readline(), 16):
        chunks.append(stream.read(size + 2)[:-2])
    stream.readline()
    return b"".join(chunks)
