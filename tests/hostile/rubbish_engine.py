"""A container engine that answers with what no engine says."""

from __future__ import annotations

import shutil
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Final

from imagesync.engine.endpoint import Endpoint

ID: Final = "sha256:" + "1" * 64
# What an engine says where it isn't told to answer with rubbish.
PLAUSIBLE: Final = {
    "/_ping": b"OK",
    "/version": b'{"Version": "29.0", "ApiVersion": "1.41", "Os": "linux", "Arch": "amd64"}',
    "/containers/create": b'{"Id": "' + b"2" * 64 + b'"}',
}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


class RubbishEngine:
    """An engine on a Unix socket; *answer* is what it says to everything that it isn't asked at its start.

    Parameters
    ----------
    status
        The HTTP status of these answers.
    """

    def __init__(self) -> None:
        self.answer = b""
        self.status = 200
        self.hanging = threading.Event()
        self.released = threading.Event()

    def __enter__(self) -> RubbishEngine:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.client_address = ("engine", 0)
                super().handle_one_request()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def answer(self) -> None:
                engine.serve(self)

            do_GET = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815  names of http.server

        self._folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self._server = _Server(str(self._folder / "s"), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder)

    @property
    def endpoint(self) -> Endpoint:
        """Return its address."""
        return Endpoint(f"unix://{self._folder}/s", "the test")

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        if self.hanging.is_set():
            self.released.wait()
            request.close_connection = True
            return
        path = request.path.partition("?")[0]
        path = path[path.index("/", 2) :] if path.startswith("/v1.") else path
        body = PLAUSIBLE.get(path, self.answer)
        size = int(request.headers.get("Content-Length") or 0)
        request.rfile.read(size)
        request.send_response(200 if path in PLAUSIBLE else self.status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = True
