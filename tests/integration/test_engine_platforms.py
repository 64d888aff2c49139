"""Which image of several platforms an engine gets: that of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from imagesync.cluster.cluster_plan import cluster_image
from imagesync.core.image_reference import split_reference
from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64, PLATFORMS, Platform
from imagesync.engine.endpoint import Endpoint, find_endpoint
from imagesync.engine.engine import Engine
from imagesync.image.built_image import Image
from imagesync.pipeline.context import Context
from imagesync.pipeline.engine_finder import EngineFinder
from imagesync.registry.manifest import Index
from imagesync.registry.oci_layout import ImageLayout
from imagesync.session import open_session
from imagesync.settings.model import Settings
from tests.engine_proxy import EngineProxy
from tests.integration.dask_project import DaskProject
from tests.integration.engines import docker_endpoint
from tests.integration.local_registry import LocalRegistry, forget_all
from tests.integration.test_pull_registry import Recording
from tests.integration.tiny_image import REFERENCE
from tests.oci_images import small_image

pytestmark = pytest.mark.engine
OF_ARM64 = {b'"Arch":"amd64"': b'"Arch":"arm64"'}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    yield from docker_endpoint(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def open_registry(engine: docker.DockerClient, tmp_path: Path) -> Iterator[LocalRegistry]:
    """Return a registry that asks for no password; what was pulled from it goes."""
    (tmp_path / "registry").mkdir()
    with LocalRegistry(tmp_path / "registry", auth={}) as registry:
        yield registry
    forget_all(engine, registry)


def pushed_index(registry: LocalRegistry, folder: Path, *platforms: Platform) -> str:
    """Return the reference of an index of small images in a registry."""
    layout = ImageLayout(folder)
    images = [
        small_image(layout, {"file": each.name.encode()}, platform=each.full_name) for each in platforms
    ]
    layout.put_index(Index(tuple(image.descriptor for image in images)), name="all", images=images)
    reference = f"{registry.host}/team/env:{'-'.join(each.machine for each in platforms)}"
    command = [
        "skopeo",
        "copy",
        "--all",
        "--dest-tls-verify=false",
        f"oci:{folder}:all",
        f"docker://{reference}",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return reference


@pytest.mark.parametrize("own", PLATFORMS, ids=str)
def test_cluster_gets_the_image_of_the_engines_own_platform(
    own: Platform, open_registry: LocalRegistry, engine: docker.DockerClient, tmp_path: Path
) -> None:
    reference = pushed_index(open_registry, tmp_path / "layout", *PLATFORMS)
    with EngineProxy(replaced=OF_ARM64 if own == LINUX_ARM64 else {}) as proxy:
        assert cluster_image(reference, None, Endpoint(proxy.url, "the test")) == reference
    assert f"linux/{engine.api.inspect_image(reference)['Architecture']}" == own.name


def test_cluster_gets_an_image_of_the_default_platform_where_there_is_no_other(
    open_registry: LocalRegistry, engine: docker.DockerClient, tmp_path: Path
) -> None:
    reference = pushed_index(open_registry, tmp_path / "layout", LINUX_AMD64)
    with EngineProxy(replaced=OF_ARM64) as proxy:
        assert cluster_image(reference, None, Endpoint(proxy.url, "the test")) == reference
    assert f"linux/{engine.api.inspect_image(reference)['Architecture']}" == LINUX_AMD64.name


def test_local_name_of_an_index_is_given_to_the_image_of_the_engines_own_platform(
    endpoint: Endpoint, engine: docker.DockerClient
) -> None:
    progress, name = Recording(), f"imagesync-test-{secrets.token_hex(4)}:stable"
    with Engine(endpoint) as client:
        (own,) = (platform for platform in PLATFORMS if platform.is_platform_of(client.info().platform))
    image_id = engine.api.inspect_image(REFERENCE)["Id"]
    images = {
        platform: Image("env:1", image_id if platform == own else "sha256:" + "0" * 64, "", "", cached=False)
        for platform in PLATFORMS
    }
    finder = EngineFinder(Context(Settings(), {"DOCKER_HOST": endpoint.url}, progress))
    finder.keep_index(Index(()), ("host.test/env:1", name), images)
    try:
        assert engine.api.inspect_image(name)["Id"] == image_id
    finally:
        engine.api.remove_image(name)
    assert progress.lines == [f"{name} names the image for {own} alone: a container engine keeps no index"]


def test_cluster_of_several_platforms_runs_the_image_of_the_engines_own(
    dask_project: DaskProject, root_image: str, shared_cache_dir: Path
) -> None:
    session = open_session(
        python=dask_project.environment.python,
        quiet=True,
        base=root_image,
        cache_dir=shared_cache_dir,
        platforms=tuple(map(str, PLATFORMS)),
        repository=split_reference(dask_project.reference)[0],
    )
    assert cluster_image(None, session, find_endpoint(os.environ)) == dask_project.reference
