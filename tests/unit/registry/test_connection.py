"""Where requests to a registry may lead: nowhere with the identity token, not from TLS to plain HTTP."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagesync.errors import RegistryError
from imagesync.registry import http
from imagesync.registry.http import Connection
from imagesync.registry.manifest import INDEX, MANIFEST, MAX_MANIFEST, Descriptor, Index
from imagesync.registry.repository import Repository
from tests.indexes.certificates import make_certificates

IDENTITY = "identity-token"


class Server(ThreadingHTTPServer):
    """Answers with what ``answers`` has for a path, and records requests with their bodies."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.seen: list[tuple[str, str, bytes]] = []
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.seen.append((self.command, self.path, body))
        known = self.server.answers
        missing = known.get(self.path.partition("?")[0], (404, {}, b""))
        status, headers, content = known.get(self.path, missing)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        # A client that has enough hangs up.
        with suppress(ConnectionError):
            self.wfile.write(content)

    do_POST = do_PUT = do_GET  # noqa: N815  names of the base class

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


@contextmanager
def serving(certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    with Server(certificate) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Give a registry with TLS that counts as one of another machine."""
    authority, certificate, key = make_certificates(tmp_path, address="127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    monkeypatch.setattr(http, "is_loopback", lambda _: False)
    with serving((certificate, key)) as server:
        yield server


@pytest.mark.parametrize("status", [302, 307, 308])
def test_identity_token_follows_no_redirect(status: int) -> None:
    with serving() as registry, serving() as elsewhere:
        realm = f'Bearer realm="http://{registry.host}/token",service="r"'
        registry.answers = {
            "/v2/": (401, {"WWW-Authenticate": realm}, b""),
            "/token": (status, {"Location": f"http://{elsewhere.host}/stolen"}, b""),
        }
        with (
            Connection(registry.host, {"identitytoken": IDENTITY}) as connection,
            pytest.raises(RegistryError, match=f"fails to log in.*HTTP {status}"),
        ):
            connection.request("GET", "/v2/", scope="")
        assert elsewhere.seen == []
        assert registry.seen[-1][:2] == ("POST", "/token")


@pytest.mark.parametrize("status", [301, 307])
def test_redirect_from_tls_to_plain_http_is_refused(secure: Server, status: int) -> None:
    with serving() as plain:
        secure.answers = {"/v2/": (status, {"Location": f"http://{plain.host}/"}, b"")}
        with (
            Connection(secure.host, {}) as connection,
            pytest.raises(RegistryError, match=r"redirects to 'http://.*without TLS"),
        ):
            connection.request("PUT", "/v2/", scope="", data=b"content")
        assert plain.seen == []


def test_location_without_tls_is_refused(secure: Server) -> None:
    with serving() as plain, Connection(secure.host, {}) as connection:
        with pytest.raises(RegistryError, match=r"leads to 'http://.*without TLS"):
            connection.request("PUT", f"http://{plain.host}/upload", scope="", data=b"content")
        assert plain.seen == []
        secure.answers = {"/v2/": (200, {}, b"{}"), "/old": (307, {"Location": "/v2/"}, b"")}
        assert connection.request("GET", "/old", scope="").ok


def test_insecure_registry_may_lead_to_plain_http() -> None:
    with serving() as registry, serving() as plain:
        plain.answers = {"/": (200, {}, b"{}")}
        registry.answers = {"/v2/": (307, {"Location": f"http://{plain.host}/"}, b"")}
        with Connection(registry.host, {}) as connection:
            assert connection.request("GET", "/v2/", scope="").ok


def test_referrers_of_all_pages_are_found() -> None:
    subject, first, second = (Descriptor.of(name.encode(), MANIFEST) for name in ("image", "1", "2"))
    path = f"/v2/env/referrers/{subject.digest}"
    kind = {"Content-Type": INDEX}
    with serving() as registry, Repository(f"{registry.host}/env") as repository:
        registry.answers = {
            path: (200, {**kind, "Link": f'<{path}?last=1>; rel="next"'}, Index((first,)).to_json()),
            f"{path}?last=1": (200, kind, Index((second,)).to_json()),
        }
        assert repository.referrers(subject.digest).manifests == (first, second)
        registry.answers[f"{path}?last=1"] = (404, {}, b"")
        with pytest.raises(RegistryError, match="fails to list what there is about"):
            repository.referrers(subject.digest)


def test_no_more_is_read_of_an_answer_than_it_may_have() -> None:
    large = b"x" * (8 * MAX_MANIFEST)
    realm = {"WWW-Authenticate": 'Bearer realm="http://{}/token"'}
    with serving() as registry, Repository(f"{registry.host}/env") as repository:
        descriptor = Descriptor.of(large, MANIFEST)
        asked = {key: value.format(registry.host) for key, value in realm.items()}
        registry.answers = {
            "/v2/env/manifests/1": (200, {}, large),
            "/v2/env/manifests/2": (401, asked, b""),
            "/v2/env/manifests/3": (400, {}, large),
            "/v2/env/manifests/4": (307, {"Location": "/v2/"}, large),
            "/token": (200, {}, large),
            f"/v2/env/blobs/{descriptor.digest}": (200, {}, large),
            f"/v2/env/blobs/{Descriptor.of(b'', MANIFEST).digest}": (403, {}, large),
        }
        for tag in ("1", "2", "3", "4"):
            with pytest.raises(RegistryError, match="answers with more than"):
                repository.manifest(tag)
        with pytest.raises(RegistryError, match="answers with more than"):
            list(repository.read(Descriptor.of(b"", MANIFEST)))
        # A blob is as large as it is.
        assert sum(map(len, repository.read(descriptor))) == len(large)


@pytest.mark.parametrize("credentials", [{"identitytoken": IDENTITY}, {"username": "me", "password": "x"}])
@pytest.mark.parametrize("bundle", [True, False])
def test_login_without_a_checked_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credentials: dict[str, str], bundle: bool
) -> None:
    authority, certificate, key = make_certificates(tmp_path, address="127.0.0.1")
    if bundle:  # of other authorities
        other = tmp_path / "other"
        other.mkdir()
        authority = make_certificates(other)[0]
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with serving((certificate, key)) as registry:
        realm = f'Bearer realm="https://{registry.host}/token",service="r"'
        registry.answers = {
            "/v2/": (401, {"WWW-Authenticate": realm}, b""),
            "/token": (200, {}, b'{"token": "t"}'),
        }
        with Connection(registry.host, credentials, insecure=True) as connection:
            assert connection.request("GET", "/v2/", scope="").status_code == 401
        assert [path.partition("?")[0] for _, path, _ in registry.seen] == ["/v2/", "/token", "/v2/"]


def test_busy_token_service_is_asked_again_when_it_says() -> None:
    pauses: list[float] = []
    with serving() as registry:
        realm = f'Bearer realm="http://{registry.host}/token",service="r"'
        registry.answers = {
            "/v2/": (401, {"WWW-Authenticate": realm}, b""),
            "/token": (429, {"Retry-After": "7"}, b"{}"),
        }

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            registry.answers["/token"] = (200, {}, b'{"token": "t"}')

        with Connection(registry.host, {}, pause=pause) as connection:
            assert connection.request("GET", "/v2/", scope="").status_code == 401
    assert pauses == [7.0]


def test_silent_registry_is_asked_once_more() -> None:
    pauses: list[float] = []
    # Its system takes connections and requests, which nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            Connection(host, {}, timeout=0.1, pause=pauses.append) as connection,
            pytest.raises(RegistryError, match="no answer in time"),
        ):
            connection.request("GET", "/v2/", scope="")
    assert len(pauses) == 1


@pytest.mark.parametrize("content", [b"{}", b'{"errors": [{}]}', b'{"errors": [null]}', b"[]", b"null"])
def test_refusal_without_a_message_is_explained_by_its_status(content: bytes) -> None:
    with serving() as registry:
        registry.answers = {"/v2/": (429, {}, content)}
        with Connection(registry.host, {}, pause=lambda _: None) as connection:
            response = connection.request("GET", "/v2/", scope="")
            message = connection.refused("read a:1", response).message
    assert message.endswith("you may read a:1: Too Many Requests (HTTP 429).")
