"""A forward proxy that counts what goes through it."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.urls.append(self.path)
        parts = urlsplit(self.path)
        host, port = self.server.resolve.get(parts.hostname or "", (parts.hostname or "", parts.port or 80))
        connection = http.client.HTTPConnection(host, port)
        headers = {
            k: v for k, v in self.headers.items() if k.lower() not in {"proxy-connection", "connection"}
        }
        connection.request(
            self.command, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers
        )
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in {"transfer-encoding", "connection", "content-length", "date", "server"}:
                self.send_header(key, value)
        self.send_header(
            "Content-Length",
            str(len(body)) if self.command == "GET" else answer.getheader("Content-Length", "0"),
        )
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        connection.close()

    do_HEAD = do_GET  # noqa: N815 (http.server names it)

    def do_CONNECT(self) -> None:
        self.server.urls.append(self.path)
        name, _, port = self.path.rpartition(":")
        with socket.create_connection(self.server.resolve.get(name, (name, int(port)))) as target:
            self.send_response(200)
            self.end_headers()
            upload = threading.Thread(target=_copy, args=(self.connection, target), daemon=True)
            upload.start()
            _copy(target, self.connection)
            upload.join()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Send what *source* receives to *target*, the end of it included."""
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, resolve: Mapping[str, tuple[str, int]]) -> None:
        self.urls: list[str] = []
        self.resolve = resolve
        super().__init__(("127.0.0.1", 0), _Handler)


class CountingProxy:
    """An HTTP proxy in a thread; ``urls`` has every URL asked for, and the host and port of every tunnel.

    Parameters
    ----------
    resolve
        Host names that only this proxy knows, and the address of each.
    """

    def __init__(self, *, resolve: Mapping[str, tuple[str, int]] | None = None) -> None:
        self._resolve = resolve or {}

    def __enter__(self) -> CountingProxy:
        self._server = _Server(self._resolve)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the proxy's URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def urls(self) -> list[str]:
        """Return the URLs asked for and the tunnels' targets, in order."""
        return self._server.urls
