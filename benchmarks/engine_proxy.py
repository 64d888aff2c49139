"""A socket before the engine's own that counts the requests which pass through."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REQUEST = re.compile(rb"(?:^|\r\n)(?:GET|HEAD|POST|PUT|DELETE) \S+ HTTP/1\.1\r\n")


class EngineProxy:
    """Passes bytes between a socket of its own and the engine's.

    Parameters
    ----------
    path
        Where it listens.
    engine
        The engine's Unix socket.
    """

    def __init__(self, path: Path, engine: Path) -> None:
        self.requests = 0
        self.url = f"unix://{path}"
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen()

    def serve(self) -> None:
        """Serve until the listening socket is shut down."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(str(self._engine))
            for source, sink in ((client, engine), (engine, client)):
                threading.Thread(
                    target=self._pass_on, args=(source, sink, source is client), daemon=True
                ).start()

    def stop(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counting: bool) -> None:
        try:
            while piece := source.recv(65536):
                if counting:
                    self.requests += len(_REQUEST.findall(piece))
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@contextmanager
def counted_engine(path: Path, engine: Path) -> Iterator[EngineProxy]:
    """Open a proxy that listens at *path*, before the engine at the Unix socket *engine*."""
    proxy = EngineProxy(path, engine)
    server = threading.Thread(target=proxy.serve)
    server.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        server.join()
        path.unlink(missing_ok=True)
