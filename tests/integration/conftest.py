"""What tests with an engine share: a client, a base image that is made once, and cleaning up after them."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import docker
import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import Endpoint, find_endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.lookup import BASE_REPOSITORY
from imagesync.image.base import ensure_base
from imagesync.session import Session, open_session
from imagesync.settings.model import Settings
from tests.commands import CommandLine, clean_environ
from tests.environments import make_environment, run
from tests.indexes.index import LocalIndex
from tests.integration.dask_project import ContainerCluster, DaskProject, make_project
from tests.integration.engines import docker_endpoint, podman_endpoint
from tests.integration.local_registry import LocalRegistry, forget, forget_all

collect_ignore = ["dask_contract.py"]  # a program for an environment with Dask alone, not a module
ROOT = Path(__file__).parents[2]
LABEL_NAME = "org.opencontainers.image.ref.name"
LABEL_PACKAGES = "dev.imagesync.packages-hash"

# testcontainers' reaper is an image of its own, which needs a registry; these tests clean up themselves.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """Return a client of the engine, by the SDK itself; without an engine tests fail, and aren't skipped."""
    client = docker.from_env(timeout=120)
    try:
        client.ping()
    except docker.errors.DockerException as error:
        pytest.fail(f"no container engine answers, run `make engine`: {error}", pytrace=False)
    yield client
    client.close()


@pytest.fixture(scope="module", params=["docker", "podman"])
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Return the endpoint of each kind of engine."""
    # Podman's socket path has to stay short.
    folder = tmp_path_factory.mktemp("e")
    yield from (docker_endpoint if request.param == "docker" else podman_endpoint)(folder)


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    """Return an index without packages."""
    with LocalIndex() as running:
        yield running


@pytest.fixture(scope="session")
def root_image(engine: docker.DockerClient) -> str:
    """Return the image that base images are made from; ``make test`` passes it in IMAGESYNC_TEST_BASE."""
    if given := os.environ.get("IMAGESYNC_TEST_BASE"):
        return given
    return run([sys.executable, "scripts/base_image.py"], cwd=ROOT).strip()


@pytest.fixture(scope="session")
def base_python(root_image: str) -> Path:
    """Return a local interpreter of the base image's feature version; the base is made now if need be."""
    version = run(
        [sys.executable, "scripts/base_python.py"], environ={"IMAGESYNC_BASE": root_image}, cwd=ROOT
    )
    return Path(run(["scripts/find-python.sh", version.rpartition(".")[0]], cwd=ROOT).strip())


@pytest.fixture
def own_bases(engine: docker.DockerClient, root_image: str) -> Iterator[None]:
    """Remove the base images that are made during a test; the common one may be another test's."""
    # Not by the fixture `ours`, which modules replace by other engines.
    with Engine(find_endpoint(os.environ)) as client:
        base = ensure_base(client, settings=Settings(base=root_image), progress=SilentProgress())
    before = base_images(engine)
    yield
    for name in base_images(engine) - before:
        if not name.startswith(base.reference):
            forget(engine, name)


def base_images(engine: docker.DockerClient) -> set[str]:
    """Return the names of all base images."""
    return {name for image in engine.api.images(BASE_REPOSITORY) for name in image["RepoTags"] or ()}


@pytest.fixture(scope="session")
def registry(
    engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalRegistry]:
    """Return a registry for all tests that push images of environments: it gets their base once."""
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry
    forget_all(engine, registry)


@pytest.fixture(scope="module")
def packages_below(engine: docker.DockerClient) -> Iterator[set[str]]:
    """Return the hashes of the packages images that the tests of a module share; at its end these go."""
    hashes: set[str] = set()
    yield hashes
    remove_packages(engine, hashes)


@pytest.fixture
def new_packages(engine: docker.DockerClient, packages_below: set[str]) -> None:
    """Remove the packages images that the tests before share, for a test of how such an image is made."""
    remove_packages(engine, packages_below)


@pytest.fixture
def repository(engine: docker.DockerClient, packages_below: set[str]) -> Iterator[str]:
    """Return an image name of this test's own; at the end its images go."""
    name = f"imagesync-test-{secrets.token_hex(4)}"
    yield name
    packages_below |= remove_named(engine, name)


def remove_images(engine: docker.DockerClient, name: str) -> None:
    """Remove the images of a repository, what they stand on, and their containers."""
    remove_packages(engine, remove_named(engine, name))


def remove_named(engine: docker.DockerClient, name: str) -> set[str]:
    """Remove the images of a repository and their containers; return the hashes of their packages images."""
    # The SDK's lists would inspect each image and container of the engine.
    # A build anew takes the name from the image before it, which is then known by its label alone.
    made = [
        image
        for image in engine.api.images()
        if has_name(image, name) or (is_dangling(image) and label(image, LABEL_NAME).startswith(f"{name}:"))
    ]
    _remove(engine, made)
    return {label(image, LABEL_PACKAGES) for image in made} - {""}


def remove_packages(engine: docker.DockerClient, hashes: set[str]) -> None:
    """Remove the packages images that have one of *hashes*, and their containers."""
    if not hashes:
        return
    packages = [
        image
        for image in engine.api.images()
        if (has_name(image, "imagesync-packages") or is_dangling(image))
        and label(image, LABEL_PACKAGES) in hashes
    ]
    _remove(engine, packages)


def _remove(engine: docker.DockerClient, images: list[dict[str, Any]]) -> None:
    for image_id in dict.fromkeys(image["Id"] for image in images):
        for container in engine.api.containers(all=True, filters={"ancestor": image_id}):
            engine.api.remove_container(container["Id"], force=True)
        forget(engine, image_id)  # another part of the suite may have removed it meanwhile


def has_name(image: dict[str, Any], name: str) -> bool:
    """Return whether an image of the engine's list has a tag of that repository."""
    return any(tag.rpartition(":")[0] == name for tag in image["RepoTags"] or ())


def is_dangling(image: dict[str, Any]) -> bool:
    """Return whether an image of the engine's list has no tag."""
    return all(tag == "<none>:<none>" for tag in image["RepoTags"] or ())


def label(image: dict[str, Any], name: str) -> str:
    """Return a label of an image of the engine's list, or nothing."""
    return str((image["Labels"] or {}).get(name, ""))


@pytest.fixture(scope="session")
def dask_project(
    engine: docker.DockerClient,
    root_image: str,
    base_python: Path,
    shared_cache_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DaskProject]:
    """Return a project with Dask beside it, and its image; whoever edits the project takes it back."""
    folder = tmp_path_factory.mktemp("dask")
    project = make_project(folder / "project")
    versions = [
        f"{name}=={version(name)}" for name in ("dask", "distributed", "cloudpickle", "tornado", "msgpack")
    ]
    environment = make_environment(folder / "env", packages=versions, python=base_python, editable=[project])
    name = f"imagesync-test-{secrets.token_hex(4)}"
    (folder / "work").mkdir()
    cli = CommandLine({**clean_environ(), "IMAGESYNC_CACHE_DIR": str(shared_cache_dir)}, folder / "work")
    cli = cli.with_environ(
        IMAGESYNC_BASE=root_image, IMAGESYNC_REPOSITORY=name, VIRTUAL_ENV=environment.prefix
    )
    yield DaskProject(project, environment, cli, cli("build").reference)
    remove_images(engine, name)


@pytest.fixture(scope="module")
def dask_cluster(engine: docker.DockerClient, dask_project: DaskProject) -> Iterator[ContainerCluster]:
    """Return two workers of that image; whoever changes them takes it back.

    Not of the session: idle processes of Dask look around a hundred times a second.
    """
    with ContainerCluster(engine, dask_project.reference, f"dask-{secrets.token_hex(4)}") as cluster:
        cluster.add_workers(2)
        yield cluster


@pytest.fixture
def image_cli(cli: CommandLine, root_image: str, repository: str, shared_cache_dir: Path) -> CommandLine:
    """Return the console script for builds: the session's base and store, this test's own image name."""
    return cli.with_environ(
        IMAGESYNC_BASE=root_image, IMAGESYNC_REPOSITORY=repository, IMAGESYNC_CACHE_DIR=shared_cache_dir
    )


@pytest.fixture(scope="module")
def ours() -> Iterator[Engine]:
    """Return imagesync's own client of the engine."""
    with Engine(find_endpoint(os.environ)) as engine:
        yield engine


@pytest.fixture
def logged_in(registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process credentials for the registry."""
    monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(tmp_path / "docker")))


@pytest.fixture
def session(dask_project: DaskProject) -> Session:
    """Return a session of the Dask project's environment."""
    return open_session(python=dask_project.environment.python, quiet=True)
