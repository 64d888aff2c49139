"""A project with an environment that has Dask, its image, and a cluster of that image started by hand."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
from distributed import Client

from tests.commands import CommandLine
from tests.environments import LocalEnvironment
from tests.processes import PATIENCE

_PYPROJECT = """
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
[project]
name = "elder"
version = "1.0"
description = "Berries"
[tool.flit.module]
name = "elder"
"""
MODULE = """
import enum

BERRIES = {berries}


class Colour(enum.Enum):
    RED = 1


class Basket:
    def __init__(self, number):
        self.berries = number * BERRIES


def pick(number):
    return number * BERRIES


def fill(number):
    return Basket(number)


def count(basket):
    return basket.berries
"""


@dataclass(frozen=True)
class DaskProject:
    """An editable project, the environment that it is installed in, and the image of that.

    Parameters
    ----------
    cli
        The console script, with that environment active.
    """

    folder: Path
    environment: LocalEnvironment
    cli: CommandLine
    reference: str

    @contextlib.contextmanager
    def edited(self, berries: int) -> Iterator[None]:
        """Have another number in the project's module; afterwards it is what the image has."""
        module = self.folder / "elder.py"
        before = module.read_text()
        module.write_text(MODULE.format(berries=berries))
        try:
            yield
        finally:
            module.write_text(before)


def make_project(folder: Path) -> Path:
    """Return a project of one module, in *folder*."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(_PYPROJECT)
    (folder / "elder.py").write_text(MODULE.format(berries=1))
    return folder


@dataclass
class ContainerCluster:
    """A scheduler and workers in containers of one network, as anybody would start them.

    Parameters
    ----------
    name
        Of the network, and the beginning of the containers' names.
    """

    engine: docker.DockerClient
    reference: str
    name: str
    workers: list[docker.models.containers.Container] = field(default_factory=list)

    def __enter__(self) -> ContainerCluster:
        self._stack = contextlib.ExitStack()
        network = self.engine.networks.create(self.name)
        self._stack.callback(network.remove)
        ports = {"8786/tcp": ("127.0.0.1", None)}
        self.scheduler = self._run("scheduler", "dask scheduler --no-dashboard", ports=ports)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def address(self) -> str:
        """Return the scheduler's address on this machine."""
        self.scheduler.reload()
        return f"tcp://127.0.0.1:{self.scheduler.ports['8786/tcp'][0]['HostPort']}"

    @property
    def scheduler_ip(self) -> str:
        """Return the scheduler's address in the network, which needs no name to be looked up."""
        return ip_address(self.scheduler)

    def add_workers(self, number: int, options: str = "") -> None:
        """Start workers, which connect when they are up."""
        for _ in range(number):
            name = f"worker{len(self.workers)}"
            command = f"dask worker tcp://{self.scheduler_ip}:8786 --nthreads 1 --no-dashboard {options}"
            self.workers.append(self._run(name, command))

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """Give a client that all the workers have come to."""
        with connect(self.address) as client:
            client.wait_for_workers(len(self.workers), timeout=90)
            yield client

    def _run(self, name: str, command: str, **options: object) -> docker.models.containers.Container:
        container = self.engine.containers.run(
            self.reference, command, name=f"{self.name}-{name}", network=self.name, detach=True, **options
        )
        self._stack.callback(remove, container)
        return container


def connect(address: str) -> Client:
    """Return a client, as soon as the scheduler listens; the engine takes connections before that."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            return Client(address, timeout=30, set_as_default=False)
        time.sleep(0.1)
    raise AssertionError(f"no scheduler answers at {address}")


def ip_address(container: docker.models.containers.Container) -> str:
    """Return a container's address in the one network that it is in."""
    container.reload()
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    address: str = network["IPAddress"]
    return address


def remove(container: docker.models.containers.Container) -> None:
    """Remove a container that may be gone."""
    with contextlib.suppress(docker.errors.NotFound):
        container.remove(force=True)
