"""Counters without a tracer: a relay in front of a server, and the files that commands open."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE) \S+ HTTP/1\.[01]\r\n")
_CHUNK = 1 << 20


class Relay:
    """An address that passes everything on to a server, and counts requests and bytes.

    Parameters
    ----------
    server
        The path of a Unix socket, or host and port.
    """

    def __init__(self, server: str | tuple[str, int]) -> None:
        self._server = server
        self._lock = threading.Lock()
        self.requests = self.sent = 0

    def __enter__(self) -> Relay:
        if isinstance(self._server, str):
            # A socket's path may have 107 bytes.
            self._folder = tempfile.mkdtemp(prefix="relay-")
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(f"{self._folder}/s")
        else:
            self._folder = ""
            self._listener = socket.socket()
            self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone doesn't wake the thread that waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._folder:
            shutil.rmtree(self._folder)

    @property
    def url(self) -> str:
        """Return what DOCKER_HOST must say."""
        return f"unix://{self._folder}/s"

    @property
    def host(self) -> str:
        """Return ``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def counted(self) -> tuple[int, int]:
        """Return requests and bytes sent so far."""
        with self._lock:
            return self.requests, self.sent

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                continue
            for source, sink, count in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=(source, sink, count), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        with contextlib.suppress(OSError):
            while size := source.recv_into(buffer):
                if count:
                    with self._lock:
                        self.sent += size
                        # A client sends a request's head on its own, or with the start of the body.
                        self.requests += _REQUEST.match(buffer[:size]) is not None
                sink.sendall(buffer[:size])
        with contextlib.suppress(OSError):
            # One side that has no more to say doesn't end what the other still sends.
            sink.shutdown(socket.SHUT_WR)


# From <linux/fanotify.h>.
_UNLIMITED_QUEUE, _NONBLOCK, _OPEN = 0x10, 0x2, 0x20
_ADD, _REMOVE, _FILESYSTEM = 0x1, 0x2, 0x100
_EVENT = struct.Struct("=IBBHQii")


@contextlib.contextmanager
def opened_files(folder: Path) -> Iterator[set[str]]:
    """Give the set of files below *folder* that anybody opens meanwhile; it is complete afterwards.

    Needs Linux and root (fanotify); elsewhere the set stays empty.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    opened: set[str] = set()
    try:
        queue = libc.fanotify_init(_UNLIMITED_QUEUE | _NONBLOCK, os.O_RDONLY)
    except AttributeError:
        queue = -1
    if queue < 0:
        yield opened
        return
    below = f"{folder.resolve()}/"
    place = (ctypes.c_uint64(_OPEN), -100, os.fsencode(folder))
    ended = threading.Event()

    def read() -> None:
        while True:
            last = ended.is_set()
            try:
                events = os.read(queue, _CHUNK)
            except BlockingIOError:
                if last:
                    return
                ended.wait(0.01)
                continue
            for start in range(0, len(events), _EVENT.size):
                file = _EVENT.unpack_from(events, start)[5]
                path = str(Path(f"/proc/self/fd/{file}").readlink())
                os.close(file)
                if path.startswith(below):
                    opened.add(path)

    reader = threading.Thread(target=read, daemon=True)
    try:
        if libc.fanotify_mark(queue, _ADD | _FILESYSTEM, *place) == 0:
            reader.start()
        yield opened
    finally:
        # Others on the machine open files all the time, so that the queue might never be empty.
        libc.fanotify_mark(queue, _REMOVE | _FILESYSTEM, *place)
        ended.set()
        if reader.ident is not None:
            reader.join()
        os.close(queue)
