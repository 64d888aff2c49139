"""A registry with faults: a server in front of a real one, that records requests and fails some of them."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tests.running_server import RunningServer, read_chunks

_CHUNK = 1 << 16


@dataclass
class Fault:
    """What happens to the next *times* requests of a kind.

    Parameters
    ----------
    method, path
        Regular expressions for whole method and path with query.
    status, headers, content
        The answer in place of the registry's; 0 for the registry's own.
    cut_upload, cut_download
        After how many bytes the connection is cut; ``None`` for never.
    replace
        Headers of the registry's answer that have another value.
    corrupt, repeat
        Send other bytes of the same length; send the whole answer twice.
    stall, slow
        Send nothing before the proxy ends; send a byte now and then until it ends.
    skip
        How many such requests go well before.
    """

    method: str
    path: str
    times: int = 1
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    cut_upload: int | None = None
    cut_download: int | None = None
    replace: Mapping[str, str] = field(default_factory=dict)
    corrupt: bool = False
    repeat: bool = False
    stall: bool = False
    slow: bool = False
    skip: int = 0

    def takes(self, method: str, path: str) -> bool:
        """Return whether it is the turn of this fault, which is used up with it."""
        if not re.fullmatch(self.method, method) or not re.fullmatch(self.path, path) or self.times <= 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        with self.server.lock:
            self.server.requests.append((self.command, self.path))
            self.server.authorizations.append(self.headers.get("Authorization"))
            fault = next((f for f in self.server.faults if f.takes(self.command, self.path)), None)
        fault = fault or Fault("", "")
        kept = self.server.kept.get(self.path)
        if self.command == "GET" and kept is not None:
            self._answer(204, {"Range": f"0-{len(kept) - 1}", "Location": self.path}, b"")
            return
        if fault.status:
            self._read_body(None)
            self._answer(fault.status, fault.headers, fault.content)
            return
        body = self._read_body(fault.cut_upload)
        if fault.cut_upload is not None and self.server.resumes:
            self.server.kept[self.path] = body
            self._cut()
            return
        if kept is not None and self.headers.get("Content-Range", "").startswith(f"{len(kept)}-"):
            body = kept + body
            del self.headers["Content-Range"]
            self.headers.replace_header("Content-Length", str(len(body)))
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
        except OSError:
            self._cut()
            return
        finally:
            connection.close()
        if fault.cut_upload is not None:
            self._cut()
            return
        if fault.stall:
            self.server.ended.wait()
            self._cut()
            return
        headers = {name: value for name, value in response.getheaders() if name != "Transfer-Encoding"}
        if fault.corrupt:
            content = bytes(255 - byte for byte in content)
        if fault.repeat:
            content *= 2
            headers.pop("Content-Length", None)
        self._answer(
            response.status, {**headers, **fault.replace}, content, cut=fault.cut_download, slow=fault.slow
        )

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  names of the base class

    def _read_body(self, limit: int | None) -> bytes:
        """Return the body; with a limit what the registry gets of it before the connection is cut."""
        size = int(self.headers.get("Content-Length", 0))
        wanted = size if limit is None else min(limit, size)
        if self.headers.get("Transfer-Encoding") == "chunked":
            # As engines send layers; the registry gets it in one piece.
            content = read_chunks(self.rfile)[:limit]
            del self.headers["Transfer-Encoding"]
            self.headers["Content-Length"] = str(len(content))
        else:
            content = self.rfile.read(wanted)
        with self.server.lock:
            self.server.uploaded += len(content)
        if limit is not None:
            self.headers.replace_header("Content-Length", str(len(content)))
        return content

    def _answer(
        self,
        status: int,
        headers: Mapping[str, str],
        content: bytes,
        *,
        cut: int | None = None,
        slow: bool = False,
    ) -> None:
        self.send_response(status)
        sent = {"Content-Length": str(len(content)), **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if slow:
            self._send_slowly(content)
            return
        self.wfile.write(content if cut is None else content[:cut])
        with self.server.lock:
            self.server.downloaded += len(content if cut is None else content[:cut])
        if cut is not None:
            self._cut()

    def _send_slowly(self, content: bytes) -> None:
        for byte in content:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.ended.wait(0.2):
                break
        self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str, *, resumes: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.resumes = resumes
        self.kept: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.authorizations: list[str | None] = []
        self.faults: list[Fault] = []
        self.uploaded = self.downloaded = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away in the middle are part of the tests."""


class RegistryProxy(RunningServer):
    """A registry at *host* that forwards to *upstream*, but for its faults.

    ::

        with RegistryProxy(registry.host) as proxy:
            proxy.fail(Fault("PUT", ".*/manifests/.*", status=500))

    Parameters
    ----------
    resumes
        Whether an upload that was cut can be resumed, which Debian's ``docker-registry`` can't.
    """

    def __init__(self, upstream: str, *, resumes: bool = False) -> None:
        self._server = _Server(upstream, resumes=resumes)
        self.host = f"127.0.0.1:{self._server.server_port}"
        super().__init__(self._server)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.ended.set()
        super().__exit__(kind, error, trace)

    def fail(self, *faults: Fault) -> None:
        """Let requests fail from now on."""
        self._server.faults.extend(faults)

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Return method and path of all requests, in their order."""
        return self._server.requests

    @property
    def authorizations(self) -> list[str | None]:
        """Return the header ``Authorization`` of all requests."""
        return self._server.authorizations

    @property
    def uploaded(self) -> int:
        """Return the size of the bodies of all requests, in bytes."""
        return self._server.uploaded

    @property
    def downloaded(self) -> int:
        """Return the size of the bodies of all answers, in bytes."""
        return self._server.downloaded

    def forget(self) -> None:
        """Forget faults, requests and bytes."""
        self._server.uploaded = self._server.downloaded = 0
        self._server.faults.clear()
        self._server.requests.clear()
        self._server.authorizations.clear()
