"""A package index over HTTP: PEP 503 pages, PEP 691 JSON, PEP 658 metadata, and faults on demand."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import shutil
import socket
import ssl
import struct
import tempfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tests.indexes.certificates import make_certificates
from tests.indexes.wheels import make_sdist, make_wheel


@dataclass
class Fault:
    """What goes wrong with one file.

    Parameters
    ----------
    listed_digest
        The hex sha256 that the pages give instead of the true one; empty gives none.
    corrupt
        Serve other bytes of the same length.
    status
        Answer with this status instead of the file.
    cut_after
        Send so many bytes, then end the connection.
    reset
        End it with a reset, which loses what the client hasn't read yet.
    redirect
        Answer 302 with this location.
    hold
        Send half of the file, then wait for this event (an interrupted download).
    times
        How many downloads are faulty; ``None`` is all of them.
    """

    listed_digest: str | None = None
    corrupt: bool = False
    status: int | None = None
    cut_after: int | None = None
    reset: bool = False
    redirect: str | None = None
    hold: threading.Event | None = None
    times: int | None = None


@dataclass(frozen=True)
class Request:
    """One request that came in; ``authorization`` is the header as it was sent."""

    method: str
    path: str
    authorization: str | None
    range: str | None
    accept: str


@dataclass
class _File:
    data: bytes
    requires_python: str | None = None
    yanked: str | None = None
    metadata: bytes | None = None

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class _State:
    username: str | None
    password: str | None
    files: dict[str, _File] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    page_status: int | None = None
    requests: list[Request] = field(default_factory=list)
    half_sent: threading.Event = field(default_factory=threading.Event)
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
    # Large enough that a small answer leaves in one segment.
    wbufsize = 65536

    def do_GET(self) -> None:
        state = self.server.state
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        request = Request(
            self.command, path, headers["Authorization"], headers["Range"], headers["Accept"] or ""
        )
        with state.lock:
            state.requests.append(request)
        if not self._authorized():
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
        elif path.startswith("/files/"):
            self._file(path.removeprefix("/files/"))
        elif path.startswith("/simple") and state.page_status is not None:
            self._answer(state.page_status, b"refused")
        elif path.rstrip("/") == "/simple":
            self._page(None)
        elif path.startswith("/simple/"):
            self._page(path.removeprefix("/simple/").strip("/"))
        else:
            self._answer(404, b"not found")

    do_HEAD = do_GET  # noqa: N815 (http.server names it)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""

    def _authorized(self) -> bool:
        state = self.server.state
        if state.username is None:
            return True
        expected = base64.b64encode(f"{state.username}:{state.password}".encode()).decode()
        return self.headers["Authorization"] == f"Basic {expected}"

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _page(self, project: str | None) -> None:
        state = self.server.state
        as_json = "application/vnd.pypi.simple.v1+json" in (self.headers["Accept"] or "")
        if project is None:
            names = sorted({str(_project(name)) for name in state.files})
            entries = "".join(f'<a href="/simple/{name}/">{name}</a>\n' for name in names)
            document = {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in names]}
        else:
            files = {
                name: file
                for name, file in state.files.items()
                if _project(name) == canonicalize_name(project)
            }
            if not files:
                self._answer(404, b"no such project")
                return
            entries = "".join(self._link(name, file) for name, file in files.items())
            listed = [self._entry(name, file) for name, file in files.items()]
            document = {"meta": {"api-version": "1.1"}, "name": project, "files": listed}
        if as_json:
            kind, body = "application/vnd.pypi.simple.v1+json", json.dumps(document).encode()
        else:
            kind, body = "text/html", f"<!DOCTYPE html><html><body>\n{entries}</body></html>".encode()
        self._answer(200, body, {"Content-Type": kind, "Cache-Control": "no-cache"})

    def _listed_digest(self, name: str, file: _File) -> str:
        fault = self.server.state.faults.get(name, Fault())
        return file.digest if fault.listed_digest is None else fault.listed_digest

    def _link(self, name: str, file: _File) -> str:
        digest = self._listed_digest(name, file)
        attributes = ""
        if file.requires_python is not None:
            attributes += f' data-requires-python="{html.escape(file.requires_python)}"'
        if file.yanked is not None:
            attributes += f' data-yanked="{html.escape(file.yanked)}"'
        if file.metadata is not None:
            attributes += f' data-core-metadata="sha256={hashlib.sha256(file.metadata).hexdigest()}"'
        fragment = f"#sha256={digest}" if digest else ""
        return f'<a href="/files/{quote(name)}{fragment}"{attributes}>{name}</a>\n'

    def _entry(self, name: str, file: _File) -> dict[str, object]:
        digest = self._listed_digest(name, file)
        return {
            "filename": name,
            "url": f"/files/{quote(name)}",
            "hashes": {"sha256": digest} if digest else {},
            "size": len(file.data),
            "upload-time": "2024-01-01T00:00:00Z",
            "requires-python": file.requires_python,
            "yanked": file.yanked if file.yanked is not None else False,
            "core-metadata": {"sha256": hashlib.sha256(file.metadata).hexdigest()}
            if file.metadata
            else False,
        }

    def _file(self, name: str) -> None:
        state = self.server.state
        if (
            name.endswith(".metadata")
            and (owner := state.files.get(name.removesuffix(".metadata"))) is not None
        ):
            self._answer(200, owner.metadata or b"", {"Content-Type": "text/plain"})
            return
        file = state.files.get(name)
        if file is None:
            self._answer(404, b"no such file")
            return
        fault = self._take_fault(name)
        if fault.status is not None:
            self._answer(fault.status, b"")
        elif fault.redirect is not None:
            self._answer(302, b"", {"Location": fault.redirect})
        else:
            self._send(bytes(255 - byte for byte in file.data) if fault.corrupt else file.data, file, fault)

    def _take_fault(self, name: str) -> Fault:
        state = self.server.state
        with state.lock:
            fault = state.faults.get(name)
            if fault is None or fault.times == 0 or self.command == "HEAD":
                return Fault()
            if fault.times is not None:
                fault.times -= 1
            return fault

    def _send(self, data: bytes, file: _File, fault: Fault) -> None:
        start, stop = _range(self.headers["Range"], len(data))
        partial = self.headers["Range"] is not None
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{file.digest}"')
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if self.command == "HEAD":
            return
        body = data[start:stop]
        if fault.cut_after is not None:
            self.wfile.write(body[: fault.cut_after])
            self.wfile.flush()
            if fault.reset:
                self._reset()
            self.close_connection = True
        elif fault.hold is not None:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.state.half_sent.set()
            fault.hold.wait()
            self.wfile.write(body[len(body) // 2 :])
        else:
            self.wfile.write(body)

    def _reset(self) -> None:
        # Closing with a zero linger time sends RST, as a firewall that loses its patience does.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _project(filename: str) -> str:
    if filename.endswith(".whl"):
        return parse_wheel_filename(filename)[0]
    return parse_sdist_filename(filename)[0]


def _range(header: str | None, size: int) -> tuple[int, int]:
    if header is None:
        return 0, size
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _wheel_metadata(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name)


class LocalIndex:
    """An index in a thread of this process, with what was asked of it.

    ::

        with LocalIndex(username="me", password="secret") as index:
            index.add_wheel("demo", "1.0", requires=["other>=2"])
            index.url                    # http://127.0.0.1:41234/simple
            index.url_with_credentials   # http://me:secret@127.0.0.1:41234/simple
            index.downloads("demo-1.0-py3-none-any.whl")

    Parameters
    ----------
    username, password
        Asked for by basic authentication on every page and file.
    tls
        Serve HTTPS with a certificate of an authority that nobody knows; ``ca_file`` names it.
    """

    def __init__(
        self, *, username: str | None = None, password: str | None = None, tls: bool = False
    ) -> None:
        self._state = _State(username, password)
        self._tls = tls
        self._folder: Path | None = None
        self._server: _Server | None = None

    def __enter__(self) -> LocalIndex:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve on a free port of the loopback interface."""
        self._server = _Server(self._state)
        if self._tls:
            self._folder = Path(tempfile.mkdtemp(prefix="imagesync-index-"))
            _, certificate, key = make_certificates(self._folder)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop serving, release the port and remove the certificates."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    @property
    def port(self) -> int:
        """Return the port that is served."""
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def origin(self) -> str:
        """Return scheme, host and port, such as ``http://127.0.0.1:41234``."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the index URL without credentials."""
        return f"{self.origin}/simple"

    @property
    def url_with_credentials(self) -> str:
        """Return the index URL as a user writes it in ``pip.conf``."""
        user, password = (
            quote(self._state.username or "", safe=""),
            quote(self._state.password or "", safe=""),
        )
        return self.url.replace("://", f"://{user}:{password}@")

    @property
    def ca_file(self) -> Path:
        """Return the certificate of the authority behind an HTTPS index."""
        assert self._folder is not None
        return self._folder / "ca.pem"

    @property
    def requests(self) -> list[Request]:
        """Return every request so far, in order."""
        with self._state.lock:
            return list(self._state.requests)

    @property
    def half_sent(self) -> threading.Event:
        """Return the event that is set when a held download has sent its first half."""
        return self._state.half_sent

    def downloads(self, filename: str | None = None) -> int:
        """Return how many GET requests asked for *filename*, or for any file (metadata apart)."""
        paths = [r.path for r in self.requests if r.method == "GET" and r.path.startswith("/files/")]
        files = [path.removeprefix("/files/") for path in paths if not path.endswith(".metadata")]
        return len(files) if filename is None else files.count(filename)

    def forget_requests(self) -> None:
        """Start counting anew."""
        with self._state.lock:
            self._state.requests.clear()

    def file_url(self, filename: str) -> str:
        """Return the URL of a file, without credentials."""
        return f"{self.origin}/files/{quote(filename)}"

    def digest(self, filename: str) -> str:
        """Return the true ``sha256:<hex>`` of a file."""
        return f"sha256:{self._state.files[filename].digest}"

    def data(self, filename: str) -> bytes:
        """Return a file's true content."""
        return self._state.files[filename].data

    def add_file(
        self, filename: str, data: bytes, *, requires_python: str | None = None, yanked: str | None = None
    ) -> str:
        """Offer a file and return its name; a wheel's metadata is offered beside it (PEP 658)."""
        metadata = _wheel_metadata(data) if filename.endswith(".whl") else None
        self._state.files[filename] = _File(data, requires_python, yanked, metadata)
        return filename

    def add_wheel(
        self,
        name: str,
        version: str,
        *,
        requires: Sequence[str] = (),
        tag: str = "py3-none-any",
        requires_python: str | None = None,
        files: Mapping[str, bytes] | None = None,
        yanked: str | None = None,
    ) -> str:
        """Make a wheel, offer it and return its file name."""
        filename, data = make_wheel(
            name, version, requires=requires, tag=tag, requires_python=requires_python, files=files
        )
        return self.add_file(filename, data, requires_python=requires_python, yanked=yanked)

    def add_sdist(
        self, name: str, version: str, *, requires: Sequence[str] = (), requires_python: str | None = None
    ) -> str:
        """Make an sdist, offer it and return its file name."""
        filename, data = make_sdist(name, version, requires=requires, requires_python=requires_python)
        return self.add_file(filename, data, requires_python=requires_python)

    def remove_file(self, filename: str) -> None:
        """Delete a file, as maintainers delete a release; the last one of a project takes its page along."""
        del self._state.files[filename]

    def yank(self, filename: str, reason: str) -> None:
        """Mark a file as yanked (PEP 592)."""
        self._state.files[filename].yanked = reason

    def refuse_pages(self, status: int) -> None:
        """Answer each request for a page with this HTTP status from now on."""
        self._state.page_status = status

    def fault(self, filename: str, fault: Fault) -> None:
        """Let *fault* happen to a file from now on."""
        self._state.faults[filename] = fault
