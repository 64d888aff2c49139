"""A socket in front of the engine's that passes everything on, and keeps what was asked."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"^(GET|HEAD|POST|PUT|DELETE) (?:/v[0-9.]+)?(/\S*) HTTP/1\.[01]\r\n", re.MULTILINE)
_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class EngineProxy:
    """The engine under another address, with the requests that came in.

    ::

        with EngineProxy() as proxy:
            cli.with_environ(DOCKER_HOST=proxy.url)("build")
            proxy.requests    # ["GET /images/json", "POST /build", ...], without query strings

    Parameters
    ----------
    before
        What happens once before a request of that method and path is passed on.
    refused
        Requests that are answered with 403, as proxies do that let only some through.
    stalled
        The end of paths that get no answer until the proxy ends, as of an engine whose disk is too slow.
    engine
        The URL of the engine; by default that of DOCKER_HOST, or Docker's own.
    replaced
        What answers have in place of certain bytes, which must be as many.
    """

    FAULTS: Final[Mapping[str, bytes | str]] = {
        "cut before the answer": b"",
        "cut in the answer": "cut",
        "done, but not answered": "lose",
        "a byte now and then": "slow",
        "twice the answer": "repeat",
        "an error": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        "rubbish": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnull",
        "a page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Log in",
    }
    """What :meth:`fail` can let happen in place of an answer."""
    STALLS: Final[Mapping[str, str]] = {
        "no answer": "stall",
        "no answer, and none to any other request": "hang",
    }
    """What lasts until the next call of :meth:`fail`."""

    def __init__(
        self,
        before: Mapping[str, Callable[[], None]] | None = None,
        *,
        refused: Sequence[str] = (),
        stalled: Sequence[str] = (),
        engine: str = "",
        replaced: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self._engine = engine or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._before = dict(before or {})
        self._refused = frozenset(refused)
        self._stalled = tuple(stalled)
        self._replaced = dict(replaced or {})
        self._fault: tuple[int, bytes | str] = (-1, b"")
        self._answering: dict[socket.socket, str] = {}
        self._hangs = False
        self._released = threading.Event()
        self._ended = threading.Event()

    def __enter__(self) -> EngineProxy:
        # A socket's path may have 107 bytes, fewer than pytest's folders need.
        self._folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / "s"))
        self._listener.listen(64)
        self._requests: list[str] = []
        self._sent = 0
        self._clients: set[socket.socket] = set()
        self._asked = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def stop(self) -> None:
        """End all connections, and take no more: the engine is gone."""
        if not self._ended.is_set():
            self._ended.set()
            # Closing alone doesn't wake the thread that waits in accept.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._released.set()
        with self._asked:
            for client in self._clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        """Return what DOCKER_HOST must say."""
        return f"unix://{self._folder}/s"

    @property
    def requests(self) -> list[str]:
        """Return method and path of every request so far, without the API's version and the query."""
        with self._asked:
            return list(self._requests)

    @property
    def sent(self) -> int:
        """Return how many bytes went to the engine so far."""
        with self._asked:
            return self._sent

    def forget(self) -> None:
        """Start counting anew."""
        with self._asked:
            self._requests.clear()
            self._sent = 0

    def fail(self, number: int, fault: str) -> None:
        """Let one request fail, counted from zero and from now on; none if *number* is negative."""
        with self._asked:
            self._requests.clear()
            self._fault = (number, {**self.FAULTS, **self.STALLS}[fault])
            self._hangs = False
            self._released.set()
            self._released = threading.Event()

    def wait_for(self, request: str, *, timeout: float = 300) -> None:
        """Wait until a request came in, for *timeout* seconds at most."""
        with self._asked:
            came = self._asked.wait_for(lambda: request in self._requests, timeout=timeout)
            assert came, f"no {request} among {self._requests}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._asked:
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            self._pass_on(client)
        finally:
            with self._asked:
                self._clients.remove(client)

    def _pass_on(self, client: socket.socket) -> None:
        with client, self._connect() as engine, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, engine)
            selector.register(engine, selectors.EVENT_READ, client)
            while selector.get_map():
                for key, _ in selector.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    try:
                        data = source.recv(1 << 16)
                        if self._hangs:
                            self._released.wait()
                            return
                        if source is client:
                            passed = self._of_client(client, data)
                        else:
                            passed = self._of_engine(client, data)
                        if passed is None:
                            return
                        data = passed
                        sink.sendall(data)
                        if not data:
                            sink.shutdown(socket.SHUT_WR)
                    except OSError:
                        return
                    if not data:
                        # One side that has no more to say doesn't end what the other still sends.
                        selector.unregister(source)
                        if source is engine:
                            return
                    elif source is client:
                        self._note(data)

    def _of_client(self, client: socket.socket, data: bytes) -> bytes | None:
        """Return what the engine gets; ``None`` if the connection ends."""
        if self._refused & set(_requests(data)):
            client.sendall(_FORBIDDEN)
            return None
        if any(request.endswith(self._stalled) for request in _requests(data)):
            self._ended.wait()
            return None
        self._interfere(data)
        fault = self._take_fault(data)
        if isinstance(fault, bytes):
            client.sendall(fault)
            return None
        if fault in self.STALLS.values():
            self._hangs = fault == "hang"
            self._released.wait()
            return None
        if fault:
            self._answering[client] = fault
        return data

    def _of_engine(self, client: socket.socket, data: bytes) -> bytes | None:
        """Return what the client gets; ``None`` if the connection ends."""
        for known, other in self._replaced.items():
            data = data.replace(known, other)
        fault = self._answering.pop(client, "") if data else ""
        if not fault:
            return data
        changed = _changed(data, fault, client)
        if fault in ("cut", "lose"):
            client.sendall(changed)
            return None
        return changed

    def _take_fault(self, data: bytes) -> bytes | str:
        """Return what to answer in place of the engine, or what happens to its answer; empty if nothing."""
        with self._asked:
            number, fault = self._fault
            first = len(self._requests)
            if not first <= number < first + len(_requests(data)):
                return ""
            self._fault = (-1, b"")
            return fault

    def _connect(self) -> socket.socket:
        host = urlsplit(self._engine)
        if host.scheme == "unix":
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(host.path)
            return engine
        return socket.create_connection((host.hostname, host.port or 2375))

    def _interfere(self, data: bytes) -> None:
        for request in _requests(data):
            if (happens := self._before.pop(request, None)) is not None:
                happens()

    def _note(self, data: bytes) -> None:
        found = _requests(data)
        with self._asked:
            self._sent += len(data)
            self._requests += found
            self._asked.notify_all()


def _changed(answer: bytes, fault: str, client: socket.socket) -> bytes:
    """Return what is sent in place of an answer of the engine."""
    if fault == "slow":
        for byte in answer[:100]:
            client.sendall(bytes([byte]))
            time.sleep(0.01)
        return answer[100:]
    return {"cut": answer[:30], "lose": b"", "repeat": answer * 2}[fault]


def _requests(data: bytes) -> list[str]:
    return [f"{m[1].decode()} {urlsplit(m[2].decode()).path}" for m in _REQUEST.finditer(data)]
