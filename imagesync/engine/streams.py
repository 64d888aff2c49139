"""Streams between this process and a container: bytes as they come, or a whole terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import docker

CHUNK = 64 * 1024  # bytes
GRACE = 10  # seconds that an interrupted command gets, as with `docker stop`
STDERR = 2  # the stream number of the attach protocol


def is_terminal() -> bool:
    """Return whether a person sits at both ends, on a system whose terminals we can drive."""
    return os.name == "posix" and sys.stdin.isatty() and sys.stdout.isatty()


def attach_streams(api: docker.APIClient, container: str) -> None:
    """Start the container and copy bytes both ways until it closes its output.

    An interrupt goes to the command as SIGINT, and its output is still copied to the end. A command
    that doesn't end in time is killed; a second interrupt doesn't wait for it.
    """
    from docker.utils.socket import frames_iter

    attached = _attach(api, container, "stdout", "stderr")
    # A connection of its own: over TLS, one whose sending side is closed can't be read any more.
    stdin = _attach(api, container, "stdin")
    api.start(container)
    threading.Thread(target=_send_stdin, args=(stdin,), daemon=True).start()
    try:
        _copy_output(frames_iter(attached, tty=False))
    except KeyboardInterrupt:
        # The engine waits for the command's end; meanwhile what the command still says must be read.
        stop = threading.Thread(target=api.stop, args=(container,), kwargs={"timeout": GRACE}, daemon=True)
        stop.start()
        _copy_output(frames_iter(attached, tty=False))
        stop.join()


def _copy_output(frames: Iterable[tuple[int, bytes]]) -> None:
    for stream, data in frames:
        target = sys.stderr.buffer if stream == STDERR else sys.stdout.buffer
        target.write(data)
        target.flush()


def attach_terminal(api: docker.APIClient, container: str) -> None:
    """Start the container with this terminal as its own, window size included."""
    attached = _attach(api, container, "stdin", "stdout", "stderr")
    api.start(container)
    with _raw_terminal(), _window_size(api, container):
        _copy_terminal(_plain_socket(attached))


def _attach(api: docker.APIClient, container: str, *streams: str) -> Any:  # noqa: ANN401  docker has no types
    return api.attach_socket(container, params={"stream": 1, **dict.fromkeys(streams, 1)})


def _plain_socket(attached: Any) -> socket.socket:  # noqa: ANN401
    # Over a Unix socket docker-py hands out a SocketIO whose write side is closed to us.
    plain: socket.socket = getattr(attached, "_sock", attached)
    return plain


def _send_stdin(attached: Any) -> None:  # noqa: ANN401
    connection = _plain_socket(attached)
    with contextlib.suppress(OSError, ValueError):
        while data := os.read(sys.stdin.fileno(), CHUNK):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def _copy_terminal(connection: socket.socket) -> None:
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    sources: list[Any] = [connection, stdin]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if connection in ready:
            data = connection.recv(CHUNK)
            if not data:
                return
            os.write(stdout, data)
        if stdin in ready:
            if data := os.read(stdin, CHUNK):
                connection.sendall(data)
            else:
                sources.remove(stdin)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _window_size(api: docker.APIClient, container: str) -> Iterator[None]:
    import docker.errors

    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        # The command may have ended already; then there is nothing to resize.
        with contextlib.suppress(docker.errors.APIError):
            api.resize(container, height=size.lines, width=size.columns)

    before = signal.signal(signal.SIGWINCH, resize)
    resize()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
