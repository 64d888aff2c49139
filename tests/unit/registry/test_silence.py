"""A registry that is slow to answer, behind TLS or a proxy, or to take a body: waited for as long as set."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from imagesync.core import limits
from imagesync.errors import RegistryError
from imagesync.registry import http
from imagesync.registry.http import Body, Connection
from tests.indexes.certificates import make_certificates
from tests.unit.registry.test_connection import Server, serving

LATE = 0.6  # seconds
SIZE = 8 << 20  # more than the buffers of a connection hold


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Give a registry with TLS that counts as one of another machine, and must be connected within 0.2 s."""
    authority, certificate, key = make_certificates(tmp_path, address="127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    monkeypatch.setattr(http, "is_loopback", lambda _: False)
    monkeypatch.setattr(http, "_CONNECT_SECONDS", 0.2)
    with serving((certificate, key)) as server:
        server.answers["/v2/"] = 200, {}, b"{}"
        yield server


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Provide the address of a server that serves each connection in a thread."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=handle, args=(client,), daemon=True).start()

    def handle(client: socket.socket) -> None:
        with client, suppress(OSError):
            serve(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Its connections have it, too: the system would take all of a body otherwise.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def relay(client: socket.socket, host: str) -> None:
    """Pass everything on, both ways."""
    name, _, port = host.rpartition(":")
    with socket.create_connection((name, int(port))) as server:

        def back() -> None:
            with suppress(OSError):
                while data := server.recv(65536):
                    client.sendall(data)

        threading.Thread(target=back, daemon=True).start()
        while data := client.recv(65536):
            server.sendall(data)


def test_handshake_may_take_longer_than_connecting(secure: Server) -> None:
    def serve(client: socket.socket) -> None:
        time.sleep(LATE)
        relay(client, secure.host)

    with listening(serve) as host, Connection(host, {}, timeout=10) as connection:
        assert connection.request("GET", "/v2/", scope="").status_code == 200


def test_proxy_may_take_longer_to_connect(secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(client: socket.socket) -> None:
        client.recv(65536)
        time.sleep(LATE)
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        relay(client, secure.host)

    with listening(serve) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}")
        monkeypatch.setenv("NO_PROXY", "")
        with Connection(secure.host, {}, timeout=10) as connection:
            assert connection.request("GET", "/v2/", scope="").status_code == 200


@pytest.mark.usefixtures("secure")
@pytest.mark.parametrize("is_proxy", [False, True])
def test_silent_handshake_and_silent_proxy_are_given_up(
    monkeypatch: pytest.MonkeyPatch, *, is_proxy: bool
) -> None:
    stopped = threading.Event()
    with listening(lambda client: stopped.wait(600) and None) as host:
        if is_proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
            monkeypatch.setenv("NO_PROXY", "")
        registry = "127.0.0.1:1" if is_proxy else host
        with (
            Connection(registry, {}, timeout=LATE, pause=lambda _: None) as connection,
            pytest.raises(RegistryError, match="can't be reached"),
        ):
            connection.request("GET", "/v2/", scope="")
        stopped.set()


def taking(pause: float, *, piece: int) -> Callable[[socket.socket], None]:
    """Return a server that takes a body piece by piece."""

    def serve(client: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(4096)
        left = SIZE - len(received.partition(b"\r\n\r\n")[2])
        while left > 0 and (data := client.recv(piece)):
            left -= len(data)
            # What the connection's buffers hold is taken at once.
            time.sleep(pause if left > SIZE // 2 else 0)
        client.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    return serve


def upload(host: str, *, timeout: float) -> int:
    chunk = bytes(SIZE)
    with Connection(host, {}, insecure=True, timeout=timeout, pause=lambda _: None) as connection:
        connection._scheme = "http"
        body = Body(lambda: [chunk], SIZE)
        return connection.request("PUT", "/v2/a", scope="", data=body, attempts=1).status_code


def test_body_that_is_taken_slowly_takes_longer_than_a_silence_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_CONNECT_SECONDS", 0.2)
    began = time.monotonic()
    with listening(taking(0.1, piece=256 << 10)) as host:
        assert upload(host, timeout=0.8) == 201
    assert time.monotonic() - began > 1


def test_body_that_nobody_takes_is_given_up() -> None:
    with (
        listening(taking(600, piece=1)) as host,
        pytest.raises(RegistryError, match="can't be reached"),
    ):
        upload(host, timeout=0.5)


def test_body_that_is_taken_by_the_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.bounded, "__kwdefaults__", {**limits.bounded.__kwdefaults__, "window": 0.5})
    monkeypatch.setattr(limits, "SLOWEST", 10_000_000)
    with (
        listening(taking(0.02, piece=4 << 10)) as host,
        pytest.raises(RegistryError, match=r"can't be reached.*only"),
    ):
        upload(host, timeout=10)
