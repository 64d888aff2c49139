"""Run a command in a fresh container that is removed afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import docker
import docker.errors
import docker.types

from imagesync.engine.attach import Attachment
from imagesync.engine.client import engine_errors
from imagesync.errors import EngineError

if TYPE_CHECKING:
    from imagesync.engine.engine import Output, RunRequest, RunResult


def run_container(api: docker.APIClient, request: RunRequest, *, output: Output | None) -> RunResult:
    """Run a command, wait for its end, and remove the container, also after an exception.

    Parameters
    ----------
    output
        Called with each piece of output as it comes; the result then holds no output.

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
            Attachment(api, name, "stdout", "stderr") as attached,
            _started(api, name, request.stdin),
            _time_limit(api, name, request.timeout) as expired,
        ):
            for stream, data in attached.output():
                receive(stream, data)
            exit_code = int(api.wait(name)["StatusCode"])
    if expired.is_set():
        log = bytes(collected["stderr"][-2000:]).decode(errors="replace").strip()
        raise EngineError(
            f"{request.command[0]} in {request.image} was stopped after {request.timeout:g} s without an end."
            + (f"\n{log}" if log else "")
        )
    return RunResult(exit_code, bytes(collected["stdout"]), bytes(collected["stderr"]))


@contextmanager
def _container(api: docker.APIClient, request: RunRequest) -> Iterator[str]:
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
def _time_limit(api: docker.APIClient, name: str, seconds: float | None) -> Iterator[threading.Event]:
    """Kill the container after *seconds*, which ends its output; yield the event that says so."""
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
