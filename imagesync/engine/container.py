"""One command in a fresh container, which is gone afterwards."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import docker
import docker.errors
import docker.types
from docker.utils.socket import STDOUT, frames_iter

from imagesync.engine.client import engine_errors
from imagesync.errors import EngineError

if TYPE_CHECKING:
    from imagesync.engine.engine import Output, RunRequest, RunResult


def run_container(api: docker.APIClient, request: RunRequest, *, output: Output | None) -> RunResult:
    """Run the command, wait for it, and remove the container, on any exception too.

    Raises
    ------
    EngineError
        The container can't be started, or didn't end in time.
    """
    from imagesync.engine.engine import RunResult

    collected: dict[Literal["stdout", "stderr"], bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    def collect(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        collected[stream] += data

    with engine_errors(f"run {request.command[0]} in {request.image}"), _container(api, request) as name:
        receive = output or collect
        with (
            _attached(api, name, "stdout", "stderr") as (attached, _),
            _started(api, name, request.stdin),
            _time_limit(api, name, request.timeout) as expired,
        ):
            for number, data in frames_iter(attached, tty=False):
                receive("stdout" if number == STDOUT else "stderr", data)
            exit_code = int(api.wait(name)["StatusCode"])
    if expired.is_set():
        said = bytes(collected["stderr"][-2000:]).decode(errors="replace").strip()
        raise EngineError(
            f"{request.command[0]} in {request.image} was stopped after {request.timeout:g} s without an end."
            + (f"\n{said}" if said else "")
        )
    return RunResult(exit_code, bytes(collected["stdout"]), bytes(collected["stderr"]))


@contextmanager
def _container(api: docker.APIClient, request: RunRequest) -> Iterator[str]:
    # The name is ours, so that the container can be removed even if the answer to its creation never arrives.
    name = f"imagesync-{uuid4().hex[:12]}"
    host_config = api.create_host_config(
        network_mode=request.network,
        mounts=[
            docker.types.Mount(mount.target, mount.source, type=mount.kind, read_only=mount.read_only)
            for mount in request.mounts
        ],
        mem_limit=request.memory,
    )
    try:
        api.create_container(
            request.image,
            entrypoint=[request.command[0]],
            command=list(request.command[1:]),
            user=request.user,
            environment=dict(request.environment),
            stdin_open=request.stdin is not None,
            working_dir=request.working_directory,
            name=name,
            host_config=host_config,
            use_config_proxy=request.network != "none",
        )
        yield name
    finally:
        with suppress(docker.errors.NotFound):
            api.remove_container(name, force=True, v=True)


@contextmanager
def _attached(api: docker.APIClient, name: str, *streams: str) -> Iterator[tuple[Any, Any]]:
    """Yield a file to read from and the connection under it, to write to."""
    file = api.attach_socket(name, {"stream": 1, **dict.fromkeys(streams, 1)})
    connection = getattr(file, "_sock", file)
    # Closing the file alone leaves the connection open until it is collected as garbage; with TLS, closing
    # that alone too.
    with closing(connection), closing(file), closing(getattr(file, "_response", file)):
        yield file, connection


@contextmanager
def _started(api: docker.APIClient, name: str, stdin: bytes | None) -> Iterator[None]:
    """Start the container, and feed it meanwhile: it may well write before it has read everything."""
    if stdin is None:
        api.start(name)
        yield
        return
    with _attached(api, name, "stdin") as (_, connection):
        api.start(name)
        feeder = threading.Thread(target=_feed, args=(connection, stdin), daemon=True)
        feeder.start()
        try:
            yield
        finally:
            # A command that ends without reading leaves the feeder waiting.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            feeder.join()


def _feed(connection: Any, stdin: bytes) -> None:  # noqa: ANN401 - a socket, whichever the transport has
    # A command that doesn't read all of it is no error here: its exit code tells.
    with suppress(OSError):
        connection.sendall(stdin)
        connection.shutdown(socket.SHUT_WR)


@contextmanager
def _time_limit(api: docker.APIClient, name: str, seconds: float | None) -> Iterator[threading.Event]:
    """Kill the container after *seconds*; its output then ends, and with it the loop that reads it."""
    expired = threading.Event()

    def kill() -> None:
        expired.set()
        with suppress(docker.errors.APIError):
            api.kill(name)

    if seconds is None:
        yield expired
        return
    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
