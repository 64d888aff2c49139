"""Run a command in a container with this process's standard streams or terminal, as `imagesync run` does."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.engine.client import connect, engine_errors
from imagesync.engine.run_container import Attachment, removing
from imagesync.errors import EngineError, UsageError

if TYPE_CHECKING:
    import docker

    from imagesync.engine.endpoint import Endpoint

WORKSPACE = "/workspace"
_CHUNK = 64 * 1024  # bytes
_Errors = Callable[[], contextlib.AbstractContextManager[None]]
_GRACE = 10  # seconds that an interrupted command gets, as with `docker stop`


@dataclass(frozen=True)
class ContainerRun:
    """A command to run in a container of an image.

    Parameters
    ----------
    reference
        The image.
    command
        Its words; empty for the image's own command.
    folder
        Mounted at ``/workspace``, which is also the working directory.
    environment
        Variables of the command.
    ports
        Host port by container port, both TCP, published on loopback only.
    """

    reference: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, int] = field(default_factory=dict)


def run_container(endpoint: Endpoint, run: ContainerRun) -> int:
    """Run the command with this process's stdin, stdout and stderr, and return its exit code.

    The command runs with this user's ids, so that this user owns the files that it writes in the folder. The
    container is always removed.

    Raises
    ------
    EngineError
        The container can't be created or started, for example because the command doesn't exist.
    """
    terminal = _is_terminal()
    copy = _copy_terminal if terminal else _copy_streams
    action = f"run {' '.join(run.command) or 'the image'} in {run.reference}"
    hint = "Check that the command exists in the image: imagesync run -- ls /opt/env/bin"
    # Not around all of it: this process's own output may fail, too.
    errors = partial(engine_errors, action, hint=hint)
    with contextlib.closing(connect(endpoint)) as api:
        with errors():
            container = api.create_container(**_configuration(api, run, terminal=terminal))["Id"]
        with removing(api, container):
            copy(api, container, errors)
            with errors():
                return int(api.wait(container)["StatusCode"])


def _configuration(api: docker.APIClient, run: ContainerRun, *, terminal: bool) -> dict[str, Any]:
    environment = dict(run.environment)
    if terminal:
        environment.setdefault("TERM", os.environ.get("TERM", "xterm"))
    host = api.create_host_config(
        binds=[f"{run.folder}:{WORKSPACE}"],
        port_bindings={inner: ("127.0.0.1", outer) for inner, outer in run.ports.items()},
        init=True,
    )
    configuration: dict[str, Any] = {
        "image": run.reference,
        "command": list(run.command) or None,
        "stdin_open": True,
        "tty": terminal,
        "stop_signal": "SIGINT",
        "working_dir": WORKSPACE,
        "environment": environment,
        "ports": list(run.ports),
        "host_config": host,
        "labels": {"dev.imagesync.run": str(os.getpid())},
    }
    # Docker Desktop maps file owners by itself, and Windows has no ids.
    if sys.platform == "linux":
        configuration["user"] = f"{os.getuid()}:{os.getgid()}"
        environment.setdefault("HOME", "/tmp")  # noqa: S108  the image's own user owns the image's home
    return configuration


def _is_terminal() -> bool:
    """Return True if both ends are a terminal that this system lets us control."""
    return os.name == "posix" and sys.stdin.isatty() and sys.stdout.isatty()


def _copy_streams(api: docker.APIClient, container: str, errors: _Errors) -> None:
    """Start the container, and copy its streams until it closes its output.

    An interrupt is sent to the command as SIGINT, and its output is still copied to the end. A command
    that doesn't end in time is killed; a second interrupt doesn't wait for it.
    """
    # Two connections: over TLS, one whose sending side is closed can't be read any more.
    with contextlib.ExitStack() as connections:
        with errors():
            attached = connections.enter_context(Attachment(api, container, "stdout", "stderr"))
            stdin = connections.enter_context(Attachment(api, container, "stdin"))
            api.start(container)
        threading.Thread(target=_send_stdin, args=(stdin,), daemon=True).start()
        try:
            _copy_output(attached)
        except KeyboardInterrupt:
            # The engine waits until the command has ended, which may want its output read.
            stop = threading.Thread(target=_stop, args=(api, container), daemon=True)
            stop.start()
            _copy_output(attached)
            stop.join()


def _stop(api: docker.APIClient, container: str) -> None:
    # If the engine is gone, the thread that reads the output reports it.
    with contextlib.suppress(EngineError), engine_errors("stop the command"):
        api.stop(container, timeout=_GRACE)


def _copy_output(attached: Attachment) -> None:
    for stream, data in attached.output():
        target = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
        target.write(data)
        target.flush()


def _send_stdin(attached: Attachment) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            attached.send(data)
        attached.end_input()


def _copy_terminal(api: docker.APIClient, container: str, errors: _Errors) -> None:
    """Start the container with this terminal as its own, window size included."""
    with contextlib.ExitStack() as connections:
        with errors():
            attached = connections.enter_context(Attachment(api, container, "stdin", "stdout", "stderr"))
            api.start(container)
        with _raw_terminal(), _window_size(api, container):
            _copy_both_ways(attached.socket, errors)


def _copy_both_ways(connection: socket.socket, errors: _Errors) -> None:
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    sources: list[Any] = [connection, stdin]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if connection in ready:
            with errors():
                data = connection.recv(_CHUNK)
            if not data:
                return
            os.write(stdout, data)
        if stdin in ready:
            if data := os.read(stdin, _CHUNK):
                with errors():
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
    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        # The command may have ended already.
        with contextlib.suppress(EngineError), engine_errors("resize the terminal"):
            api.resize(container, height=size.lines, width=size.columns)

    before = signal.signal(signal.SIGWINCH, resize)
    resize()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def parse_variables(words: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables by name, from ``NAME=VALUE``, or ``NAME`` alone for the value in *environ*.

    >>> parse_variables(["A=1=2", "HOME", "UNSET"], {"HOME": "/home/me"})
    {'A': '1=2', 'HOME': '/home/me'}
    """
    variables = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word} has no name.", hint="Write --env NAME=VALUE, or --env NAME.")
        if separator or name in environ:
            variables[name] = value if separator else environ[name]
    return variables


def parse_ports(words: Iterable[str]) -> dict[int, int]:
    """Return the host port of each container port, from ``OUTSIDE:INSIDE`` or one number for both.

    >>> parse_ports(["8787", "9000:80"])
    {8787: 8787, 80: 9000}
    """
    ports = {}
    for word in words:
        outside, _, inside = word.partition(":")
        try:
            numbers = int(outside), int(inside or outside)
        except ValueError:
            numbers = (0, 0)
        if not all(0 < number < 65536 for number in numbers):
            raise UsageError(
                f"--publish {word} isn't a port mapping.",
                hint="Write --publish 8787, or --publish 9000:8787.",
            )
        ports[numbers[1]] = numbers[0]
    return ports
