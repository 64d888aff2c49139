"""An index and a registry behind proxies with faults, and a command line that builds and pushes by them."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imagesync.core.progress import SilentProgress
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import push_image
from imagesync.registry.repository import Repository
from imagesync.store.layout import BLOBS
from tests.commands import CommandLine, clean_environ
from tests.environments import make_environment
from tests.indexes import LocalIndex
from tests.integration.local_registry import LocalRegistry
from tests.integration.oci_environment import python_base
from tests.integration.registry_proxy import RegistryProxy


@dataclass(frozen=True)
class World:
    """An environment of two packages from the index, and its image without an engine.

    Parameters
    ----------
    cli
        Without a cache folder and a repository.
    built, pushed
        The cache folder of a build that pushed nothing, and of one that pushed to ``known``.
    reference
        Of the image that was pushed.
    layers
        Digests of the image's layers, wherever it is built.
    """

    cli: CommandLine
    index: RegistryProxy
    registry: RegistryProxy
    folder: Path
    built: Path
    pushed: Path
    reference: str
    layers: tuple[str, ...]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def proxies(self) -> dict[str, RegistryProxy]:
        """Return what stands between the command and each server."""
        return {"index": self.index, "registry": self.registry}

    def machine(self, *, store: Path | None = None, repository: str = "") -> CommandLine:
        """Return the command line of a machine of its own.

        Parameters
        ----------
        store
            The cache folder to begin with; an empty one if not given.
        repository
            In the registry; one that nobody else uses if not given.
        """
        number = next(self.numbers)
        folder = self.folder / f"machine-{number}"
        (folder / "home").mkdir(parents=True)
        if store is not None:
            shutil.copytree(store, folder / "store")
        cli = self.cli.with_environ(
            HOME=folder / "home",
            TMPDIR=folder / "home",
            IMAGESYNC_CACHE_DIR=folder / "store",
            IMAGESYNC_REPOSITORY=f"{self.registry.host}/{repository or f'trial-{number}'}",
        )
        return CommandLine(cli.environ, folder)

    def forget(self) -> None:
        """End all faults, and start to count anew."""
        for proxy in self.proxies.values():
            proxy.forget()


def layers(reference: str) -> tuple[str, ...]:
    """Return the digests of an image's layers, all of which the registry must have."""
    with Repository(reference) as repository:
        found = repository.resolve("linux/amd64")
        assert found is not None, reference
        for layer in found[1].manifest.layers:
            content = b"".join(repository.read(layer))
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.digest
    return tuple(layer.digest for layer in found[1].manifest.layers)


def check_blobs(root: Path) -> None:
    """Check that each blob of the store in *root* is what it says."""
    for path in (root / BLOBS).rglob("*"):
        if path.is_file():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@contextmanager
def make_world(folder: Path) -> Iterator[World]:
    """Start the servers, make the environment, and build and push its image."""
    for name in ("registry", "work"):
        (folder / name).mkdir()
    with LocalIndex() as packages, LocalRegistry(folder / "registry", auth={}) as images:
        packages.add_wheel("alder", "1.0.0", requires=["birch>=2"])
        packages.add_wheel("birch", "2.1.0")
        local = make_environment(
            folder / "env",
            packages=["alder"],
            python=sys.executable,
            arguments=["--index-url", packages.url],
        )
        with Repository(f"{images.host}/base") as repository:
            image = python_base(ImageLayout(folder / "base"))
            push_image(image, repository, tags=["1"], progress=SilentProgress())
        upstream = packages.origin.removeprefix("http://")
        with RegistryProxy(upstream) as index, RegistryProxy(images.host) as registry:
            cli = CommandLine(clean_environ(), folder / "work").with_environ(
                VIRTUAL_ENV=local.prefix,
                DOCKER_HOST="tcp://127.0.0.1:1",
                IMAGESYNC_BASE=f"{registry.host}/base:1",
                IMAGESYNC_PROFILE="none",
                IMAGESYNC_PYTHON="base",
                PIP_INDEX_URL=f"http://{index.host}/simple",
                PIP_RETRIES="1",
                UV_NO_CACHE="1",
            )
            built, pushed = folder / "built", folder / "pushed"
            first = cli.with_environ(
                IMAGESYNC_CACHE_DIR=pushed, IMAGESYNC_REPOSITORY=f"{registry.host}/known"
            )
            reference = first("build", "--push").reference
            cli.with_environ(IMAGESYNC_CACHE_DIR=built, IMAGESYNC_REPOSITORY="imagesync")("build")
            yield World(cli, index, registry, folder, built, pushed, reference, layers(reference))
