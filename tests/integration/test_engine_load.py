"""Images that no engine has built, loaded into the engine without the layers that it has."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.load_image import load_image
from imagesync.registry.manifest import Descriptor
from imagesync.registry.oci_image import BlobSource, OCIImage
from imagesync.registry.oci_layout import ImageLayout
from tests.integration.local_registry import forget
from tests.oci_images import small_image


class _Counted:
    """Blobs that remember which of them were read."""

    def __init__(self, blobs: BlobSource) -> None:
        self._blobs = blobs
        self.read_digests: list[str] = []

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        self.read_digests.append(descriptor.digest)
        yield from self._blobs.read(descriptor)


@pytest.fixture
def names(engine: docker.DockerClient) -> Iterator[list[str]]:
    repository = f"imagesync-test-{secrets.token_hex(4)}"
    names = [f"{repository}:{number}" for number in range(3)]
    yield names
    for name in names:
        forget(engine, name)


def load(engine: docker.DockerClient, image: OCIImage, name: str) -> list[int]:
    """Load an image, and return the numbers of the layers that were sent."""
    counted = _Counted(image.layers)
    load_image(engine.api, replace(image, layers=counted), references=[name], progress=SilentProgress())
    digests = [layer.digest for layer in image.manifest.layers]
    assert engine.images.get(name).id == image.manifest.config.digest
    assert engine.images.get(name).attrs["RootFS"]["Layers"] == list(image.config.diff_ids)
    return [digests.index(digest) for digest in counted.read_digests]


def test_only_layers_that_the_engine_lacks_are_sent(
    engine: docker.DockerClient, tmp_path: Path, names: list[str]
) -> None:
    layout = ImageLayout(tmp_path)
    base, code, edited = ({name: os.urandom(2000)} for name in ("base", "code", "code"))
    assert load(engine, small_image(layout, base, {"packages": b"1"}, code), names[0]) == [0, 1, 2]
    # The layer above the one that changed has other layers below.
    other = small_image(layout, base, {"packages": b"2"}, code, code)
    assert load(engine, other, names[1]) == [1, 2]
    assert load(engine, small_image(layout, base, {"packages": b"2"}, edited), names[2]) == [2]
    archive = engine.containers.create(names[2], command=["x"])
    try:
        for path, content in (("packages", b"2"), ("code", edited["code"])):
            stream, _ = archive.get_archive(f"/{path}")
            assert content in b"".join(stream)
    finally:
        archive.remove()
