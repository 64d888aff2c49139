"""A base image of the engine's own, saved, compressed once, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from imagesync.core.digests import sha256_of
from imagesync.core.image_location import parse_location
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import Endpoint
from imagesync.errors import BaseImageError
from imagesync.image.base_source import open_base
from imagesync.image.layers.base_contents import read_base
from imagesync.registry.image_source import SourceImage
from imagesync.registry.manifest import LAYER_GZIP
from tests.commands import CommandLine
from tests.conftest import MakeEnvironment
from tests.engine_proxy import EngineProxy
from tests.integration.engines import docker_endpoint
from tests.integration.tiny_image import REFERENCE

pytestmark = pytest.mark.engine


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[EngineProxy]:
    for endpoint in docker_endpoint(tmp_path):
        with EngineProxy(engine=endpoint.url) as proxy:
            yield proxy


def test_image_of_the_engine_is_a_base_whose_layers_are_compressed_once(
    tmp_path: Path, proxy: EngineProxy
) -> None:
    def opened(name: str, cache: Path) -> AbstractContextManager[SourceImage]:
        return open_base(
            parse_location(f"docker-daemon:{name}", given_as="--base"),
            cache=cache,
            progress=SilentProgress(),
            find_endpoint=lambda: Endpoint(proxy.url, "the test"),
            platform=LINUX_AMD64,
        )

    for cache in (tmp_path / "one", tmp_path / "one", tmp_path / "two"):
        with opened(REFERENCE, cache) as base:
            (layer,) = base.image.manifest.layers
            assert layer.media_type == LAYER_GZIP
            assert sha256_of(b"".join(base.image.layers.read(layer))) == layer.digest
            known = read_base(base.image, cache=cache, progress=SilentProgress())
            assert known == read_base(base.image, cache=tmp_path / "anew", progress=SilentProgress())
            assert known.tree.has_folder("bin")
        assert [*(cache / "partial").glob("*")] == []
    # The same bytes each time; once for each cache folder.
    assert base.digest
    saved = [request for request in proxy.requests if request.endswith("/get")]
    assert saved == [f"GET /images/{REFERENCE}/get"] * 2
    with (
        pytest.raises(BaseImageError, match="no image imagesync-test/none:1"),
        opened("imagesync-test/none:1", tmp_path),
    ):
        pass


def test_image_without_python_is_refused_before_it_is_saved(
    cli: CommandLine, environment: MakeEnvironment, tmp_path: Path
) -> None:
    for endpoint in docker_endpoint(tmp_path):
        with EngineProxy(engine=endpoint.url, stalled=("/get",)) as proxy:
            refused = cli.with_environ(
                DOCKER_HOST=proxy.url,
                IMAGESYNC_BASE=f"docker-daemon:{REFERENCE}",
                IMAGESYNC_BUILDER="oci",
                IMAGESYNC_PROFILE="none",
                VIRTUAL_ENV=environment().prefix,
            ).run("build", timeout=60)
        assert refused.returncode == 1
        assert f"docker-daemon:{REFERENCE} has no Python, and without an engine none" in refused.stderr
        assert [request for request in proxy.requests if request.startswith("DELETE /containers/")]
