"""A base image of the engine's own, saved, compressed once, and kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from imagesync.core.image_location import parse_location
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.engine import Engine
from imagesync.errors import BaseImageError
from imagesync.image.base_source import open_base
from imagesync.registry.manifest import LAYER_GZIP, sha256
from tests.integration.engines import docker_endpoint
from tests.integration.tiny_image import REFERENCE

pytestmark = pytest.mark.engine


def test_image_of_the_engine_is_a_base_whose_layers_are_compressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    original = Engine.save
    monkeypatch.setattr(Engine, "save", lambda self, name: saved.append(name) or original(self, name))
    for endpoint in docker_endpoint(tmp_path):
        for cache in (tmp_path / "one", tmp_path / "one", tmp_path / "two"):
            location = parse_location(f"docker-daemon:{REFERENCE}", given_as="--base")
            with open_base(
                location,
                cache=cache,
                progress=SilentProgress(),
                open_engine=partial(Engine, endpoint),
                platform=LINUX_AMD64,
            ) as base:
                (layer,) = base.image.manifest.layers
                assert layer.media_type == LAYER_GZIP
                assert sha256(b"".join(base.image.layers.read(layer))) == layer.digest
        # The same bytes each time; once for each cache folder.
        assert base.digest
        assert saved == [REFERENCE, REFERENCE]
        missing = parse_location("docker-daemon:imagesync-test/none:1", given_as="--base")
        with (
            pytest.raises(BaseImageError, match="no image imagesync-test/none:1"),
            open_base(
                missing,
                cache=tmp_path,
                progress=SilentProgress(),
                open_engine=partial(Engine, endpoint),
                platform=LINUX_AMD64,
            ),
        ):
            pass
