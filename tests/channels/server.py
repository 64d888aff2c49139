"""A conda channel over HTTP: tokens or a password, counted requests, files that fail on demand."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """One request that came in, as it was sent: the path with its token, the header with its password."""

    method: str
    path: str
    authorization: str | None
    status: int


@dataclass
class _State:
    root: Path
    name: str
    token: str
    username: str
    password: str
    bearer: str
    requests: list[Request] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, state: _State) -> None:
        self.state = state
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away in the middle are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self) -> None:
        state = self.server.state
        path = unquote(urlsplit(self.path).path)
        status, file = self._find(path)
        with state.lock:
            state.requests.append(Request(self.command, path, self.headers["Authorization"], status))
        if status != 200 or file is None:
            self._answer(status, b"")
            return
        data = file.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"',
            "Last-Modified": email.utils.formatdate(file.stat().st_mtime, usegmt=True),
            "Content-Type": "application/octet-stream",
        }
        if self.headers["If-None-Match"] == headers["ETag"]:
            self._answer(304, b"", headers)
            return
        self._answer(200, data, headers)

    do_HEAD = do_GET  # noqa: N815 (http.server names it)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""

    def _find(self, path: str) -> tuple[int, Path | None]:
        """Return the status of the answer, and the file where it is 200."""
        state = self.server.state
        if state.username:
            expected = base64.b64encode(f"{state.username}:{state.password}".encode()).decode()
            if self.headers["Authorization"] != f"Basic {expected}":
                return 401, None
        if state.bearer and self.headers["Authorization"] != f"Bearer {state.bearer}":
            return 401, None
        if state.token:
            if not path.startswith(f"/t/{state.token}/"):
                return 403, None
            path = path.removeprefix(f"/t/{state.token}")
        if not path.startswith(f"/{state.name}/"):
            return 404, None
        name = path.removeprefix(f"/{state.name}/")
        file = (state.root / name).resolve()
        if (status := state.status.get(name)) is not None:
            return status, None
        inside = state.root.resolve() in file.parents
        return (200, file) if inside and file.is_file() else (404, None)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="channel"')
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class ChannelServer:
    """A channel's folder, served in a thread of this process.

    ::

        with ChannelServer(channel, token="tk-secret") as server:
            server.url                   # http://127.0.0.1:41234/channel
            server.url_with_credentials  # http://127.0.0.1:41234/t/tk-secret/channel
            server.count(".conda")       # packages that were downloaded

    Parameters
    ----------
    root
        The channel's folder.
    name
        The last part of its URL.
    token
        Asked for in the path, as ``/t/<token>/``.
    username, password
        Asked for by basic authentication.
    bearer
        Asked for as a bearer token.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str = "channel",
        token: str = "",
        username: str = "",
        password: str = "",
        bearer: str = "",
    ) -> None:
        self._state = _State(root, name, token, username, password, bearer)

    def __enter__(self) -> ChannelServer:
        self._server = _Server(self._state)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        """Return host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """Return the channel's URL without credentials."""
        return f"http://{self.host}/{self._state.name}"

    @property
    def url_with_credentials(self) -> str:
        """Return the URL that a user with a token, or a password, would configure."""
        state = self._state
        user = f"{state.username}:{state.password}@" if state.username else ""
        token = f"/t/{state.token}" if state.token else ""
        return f"http://{user}{self.host}{token}/{state.name}"

    @property
    def requests(self) -> list[Request]:
        """Return the requests so far, in order."""
        with self._state.lock:
            return list(self._state.requests)

    def count(self, ending: str = "") -> int:
        """Return how many requests for paths of this *ending* were answered with a file."""
        return sum(
            request.method == "GET" and request.status == 200 and request.path.endswith(ending)
            for request in self.requests
        )

    def forget_requests(self) -> None:
        """Start counting anew."""
        with self._state.lock:
            self._state.requests.clear()

    def fail(self, name: str, status: int) -> None:
        """Answer with *status* for a file, such as ``noarch/six-1.17.0-pyhd8ed1ab_0.conda``, from now on."""
        self._state.status[name] = status
