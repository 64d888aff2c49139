"""One command in a container of an image, with this terminal's streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.engine.streams import attach_streams, attach_terminal, is_terminal
from imagesync.errors import EngineError, UsageError

if TYPE_CHECKING:
    import docker

    from imagesync.engine.endpoint import Endpoint

WORKSPACE = "/workspace"


@dataclass(frozen=True)
class ContainerRun:
    """What to run, and where.

    Parameters
    ----------
    reference
        The image.
    command
        Its words; empty for the image's own command.
    folder
        Mounted at ``/workspace``, which is also the working directory.
    ports
        Container port to host port, both TCP, published on loopback only.
    """

    reference: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, int] = field(default_factory=dict)


def run_container(endpoint: Endpoint, run: ContainerRun) -> int:
    """Run the command with this process's stdin, stdout and stderr, and return its exit code.

    The process in the container has this user's ids, so that files it writes in the folder are
    this user's. The container is removed when the command ends, however it ends.

    Raises
    ------
    EngineError
        The container can't be made or started; a command that doesn't exist is one case.
    """
    import docker.errors

    from imagesync.engine.client import connect

    terminal = is_terminal()
    container = ""
    api = connect(endpoint)
    try:
        container = api.create_container(**_configuration(api, run, terminal=terminal))["Id"]
        attach = attach_terminal if terminal else attach_streams
        attach(api, container)
        return int(api.wait(container)["StatusCode"])
    except docker.errors.APIError as error:
        raise EngineError(
            f"the engine can't run {' '.join(run.command) or 'the image'} in {run.reference}: "
            f"{error.explanation or error}",
            hint="See that the command exists in the image: imagesync run -- ls /opt/env/bin",
        ) from error
    finally:
        if container:
            api.remove_container(container, force=True, v=True)
        api.close()


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
    # Docker Desktop maps file owners by itself, and Windows has no ids to give.
    if sys.platform == "linux":
        configuration["user"] = f"{os.getuid()}:{os.getgid()}"
        environment.setdefault("HOME", "/tmp")  # noqa: S108  the image's home belongs to its own user
    return configuration


def parse_variables(words: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables by name, from ``NAME=VALUE``, or ``NAME`` alone for the value in *environ*.

    >>> parse_variables(["A=1=2", "HOME", "UNSET"], {"HOME": "/home/me"})
    {'A': '1=2', 'HOME': '/home/me'}
    """
    variables = {}
    for word in words:
        name, given, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word} has no name.", hint="Write --env NAME=VALUE, or --env NAME.")
        if given or name in environ:
            variables[name] = value if given else environ[name]
    return variables


def parse_ports(words: Iterable[str]) -> dict[int, int]:
    """Return the port outside for each port inside, from ``OUTSIDE:INSIDE`` or one number for both.

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
                f"--publish {word} names no ports.", hint="Write --publish 8787, or --publish 9000:8787."
            )
        ports[numbers[1]] = numbers[0]
    return ports
