"""Run a command in a new container, connected to its standard streams, and remove the container."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from imagesync.core.limits import OUTPUT
from imagesync.engine.abandoned_containers import process_labels
from imagesync.engine.client import engine_errors
from imagesync.engine.liveness import gone, wait_for_exit, watched
from imagesync.errors import EngineError

if TYPE_CHECKING:
    import docker


Stream = Literal["stdin", "stdout", "stderr"]
_NOT_FOUND = 404


class Attachment:
    """A connection to standard streams of a container; as a context manager it is closed at the end.

    Parameters
    ----------
    api
        The engine's client.
    container
        Its name or ID; it needn't run yet.
    streams
        Over TLS the input needs a connection of its own: one whose sending side is closed can't be read.
    """

    def __init__(self, api: docker.APIClient, container: str, *streams: Stream) -> None:
        params = dict.fromkeys(("stream", *streams), 1)
        self._file: Any = api.attach_socket(container, params=params)
        # Over a Unix socket the SDK returns a file that can't be written to.
        self.socket: socket.socket = getattr(self._file, "_sock", self._file)
        # The engine has answered; the container may be silent.
        self.socket.settimeout(None)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def output(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """Yield stream and content of each piece of output, until the container closes its streams."""
        from docker.utils.socket import STDOUT, frames_iter

        with engine_errors("send the output of a container"):
            for number, data in frames_iter(self._file, tty=False):
                yield "stdout" if number == STDOUT else "stderr", data

    def lines(self) -> Iterator[str]:
        """Yield the lines of all streams, until the container closes them."""
        rest = b""
        for _, data in self.output():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")

    def send(self, data: bytes) -> None:
        """Send *data* to the container's standard input."""
        self.socket.sendall(data)

    def end_input(self) -> None:
        """Close the container's standard input; its output can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def disconnect(self) -> None:
        """End the connection for every process and thread that uses it."""
        with suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close this process's files of the connection, which lives on in others."""
        # Closing the file alone leaves the connection open until it is collected as garbage; over TLS,
        # closing the socket alone does, too.
        for part in (getattr(self._file, "_response", None), self._file, self.socket):
            if part is not None:
                part.close()

    def close(self) -> None:
        """End the connection, and close its files."""
        self.disconnect()
        self.release()


Output = Callable[[Literal["stdout", "stderr"], bytes], None]
"""Called with the stream and each piece of its output."""


@dataclass(frozen=True)
class Mount:
    """A folder, file or volume of the engine's machine, mounted in a container.

    Parameters
    ----------
    source
        An absolute path on the engine's machine, or the name of a volume.
    target
        A path in the container.
    read_only
        Whether the container can't write to it.
    kind
        Whether *source* is a path or a volume.
    """

    source: str
    target: str
    read_only: bool = True
    kind: Literal["bind", "volume"] = "bind"


@dataclass(frozen=True)
class RunResult:
    """The exit code and the output of a container's command."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class RunRequest:
    """A command to run in a fresh container that is removed afterwards.

    Parameters
    ----------
    image
        A reference or an image ID.
    command
        Replaces the image's entry point and command.
    user
        As ``docker run --user``; ``None`` is the image's own.
    mounts, environment
        Added to those of the image.
    network
        ``none``, ``default`` (the engine's bridge), or the name of a network.
    stdin
        The content of its standard input.
    memory
        The limit in bytes.
    timeout
        Seconds until the container is killed and :class:`EngineError` raised; ``None`` is no limit.
    working_directory
        ``None`` is the image's own.
    """

    image: str
    command: Sequence[str]
    user: str | None = None
    mounts: Sequence[Mount] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"
    stdin: bytes | None = None
    memory: int | None = None
    timeout: float | None = 600
    working_directory: str | None = None


def run_container(api: docker.APIClient, request: RunRequest, *, output: Output | None) -> RunResult:
    """Run a command, wait for its end, and remove the container, also after an exception.

    Parameters
    ----------
    api
        The engine's client.
    request
        The command and its container.
    output
        Called with each piece of output as it comes; the result then holds no output.

    Raises
    ------
    EngineError
        The container can't be started, didn't end in time, or printed too much.
    """
    collected: dict[Literal["stdout", "stderr"], bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    def collect(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if len(collected[stream]) + len(data) > OUTPUT:
            raise EngineError(f"{request.command[0]} in {request.image} printed more than {OUTPUT} bytes.")
        collected[stream] += data

    end = time.monotonic() + (inf if request.timeout is None else request.timeout)
    with engine_errors(f"run {request.command[0]} in {request.image}"), _container(api, request) as name:
        receive = output or collect
        with (
            Attachment(api, name, "stdout", "stderr") as attached,
            _time_limit(attached, request.timeout) as expired,
            watched(api, attached.disconnect) as is_gone,
            _started(api, name, request.stdin),
        ):
            for stream, data in _until((expired, is_gone), attached):
                receive(stream, data)
            if is_gone.is_set():
                raise gone(f"run {request.command[0]} in {request.image}")
            exit_code = None if expired.is_set() else wait_for_exit(api, name, end=end)
        if exit_code is None:
            log = bytes(collected["stderr"][-2000:]).decode(errors="replace").strip()
            raise EngineError(
                f"{request.command[0]} in {request.image} was stopped after {request.timeout:g} s."
                + (f"\n{log}" if log else "")
            )
    return RunResult(exit_code, bytes(collected["stdout"]), bytes(collected["stderr"]))


def first_file(api: docker.APIClient, image: str, paths: Iterable[str]) -> str | None:
    """Return the first of *paths* that an image has, or ``None``; a container is made, and never started."""
    with engine_errors(f"look for files in {image}"), _container(api, RunRequest(image, ("true",))) as name:
        for path in paths:
            url, limit = api._url("/containers/{0}/archive", name), api.timeout
            answer = api.head(url, params={"path": path}, timeout=limit)
            if answer.status_code != _NOT_FOUND:
                api._raise_for_status(answer)
                return path
    return None


@contextmanager
def _container(api: docker.APIClient, request: RunRequest) -> Iterator[str]:
    import docker.types

    # We choose the name, so that the container can be removed even if the answer to its creation is lost.
    name = f"imagesync-{uuid4().hex[:12]}"
    host_config = api.create_host_config(
        network_mode=request.network,
        mounts=[
            docker.types.Mount(mount.target, mount.source, type=mount.kind, read_only=mount.read_only)
            for mount in request.mounts
        ],
        mem_limit=request.memory,
    )
    with removing(api, name):
        api.create_container(
            request.image,
            entrypoint=[request.command[0]],
            command=list(request.command[1:]),
            user=request.user,
            environment=dict(request.environment),
            stdin_open=request.stdin is not None,
            working_dir=request.working_directory,
            name=name,
            labels=process_labels(),
            host_config=host_config,
            use_config_proxy=request.network != "none",
        )
        yield name


_REMOVAL_SECONDS = 20.0


@contextmanager
def removing(api: docker.APIClient, name: str) -> Iterator[None]:
    """Remove a container at the end of the block, running or not, if it exists.

    An error of the block is raised even if the engine no longer answers.
    """
    import docker.errors

    def remove(timeout: float | None = None) -> None:
        limit = {} if timeout is None else {"timeout": timeout}
        with engine_errors(f"remove the container {name}"), suppress(docker.errors.NotFound):
            url = api._url("/containers/{0}", name)
            api._raise_for_status(api._delete(url, params={"v": True, "force": True}, **limit))

    try:
        yield
    except BaseException:
        with suppress(EngineError):
            remove(_REMOVAL_SECONDS)  # an engine that is gone has cost its time already
        raise
    remove()


@contextmanager
def _started(api: docker.APIClient, name: str, stdin: bytes | None) -> Iterator[None]:
    """Start the container, and send its input while the block reads: it may write before it has read all."""
    if stdin is None:
        api.start(name)
        yield
        return
    with Attachment(api, name, "stdin") as attached:
        api.start(name)
        sender = threading.Thread(target=_send, args=(attached, stdin), daemon=True)
        sender.start()
        try:
            yield
        finally:
            # If the command ends without reading, the thread still waits.
            attached.disconnect()
            sender.join()


def _send(attached: Attachment, stdin: bytes) -> None:
    # A command that doesn't read all of its input is no error: its exit code tells.
    with suppress(OSError):
        attached.send(stdin)
        attached.end_input()


@contextmanager
def _time_limit(attached: Attachment, seconds: float | None) -> Iterator[threading.Event]:
    """End the connection to the output after *seconds*; yield the event that says so.

    The container isn't killed here: an engine that is too busy to answer must not hold up the limit.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        attached.disconnect()

    if seconds is None:
        yield expired
        return
    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _until(
    ended: Sequence[threading.Event], attached: Attachment
) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
    """Yield the output until one of *ended*, which end the connection in the middle of a read."""
    try:
        yield from attached.output()
    except (EngineError, ValueError):
        if not any(event.is_set() for event in ended):
            raise
