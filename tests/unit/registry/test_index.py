"""Indexes of images for several platforms in layouts and archives."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from imagesync.core.image_location import parse_location
from imagesync.core.progress import SilentProgress
from imagesync.errors import BaseImageError
from imagesync.registry.archive import write_index_archive
from imagesync.registry.image_source import open_image
from imagesync.registry.manifest import REF_NAME, Index
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import small_image

SHARED = {"shared": b"pure packages"}


@pytest.fixture
def images(tmp_path: Path) -> list[OCIImage]:
    """Return the images of two platforms, with one layer in common."""
    layout = ImageLayout(tmp_path / "images")
    platforms = {"linux/amd64": b"62", "linux/arm64/v8": b"183"}
    return [
        small_image(layout, SHARED, {"native": content}, platform=name, name=name)
        for name, content in platforms.items()
    ]


def index_of(images: list[OCIImage]) -> Index:
    return Index(tuple(image.descriptor for image in images), {"made": "here"})


def test_layout_has_each_layer_of_an_index_once_and_names_the_index_alone(
    images: list[OCIImage], tmp_path: Path
) -> None:
    layout, index = ImageLayout(tmp_path / "both"), index_of(images)
    layout.put_index(index, name="v1", images=images)
    (entry,) = layout.index().manifests
    assert (entry.digest, entry.annotations[REF_NAME]) == (index.digest, "v1")
    # Three layers, and for each image two documents.
    assert layout.usage()[0] == 3 + 4 + 1
    for platform in ("linux/amd64", "linux/arm64"):
        location = parse_location(f"oci:{layout.root}:v1", given_as="base")
        with open_image(location, platform=platform, kept=layout, progress=SilentProgress()) as found:
            assert found.image.config.platform.startswith(platform)
            assert found.digest == index.digest


def test_images_of_an_index_stay_as_long_as_it_does(images: list[OCIImage], tmp_path: Path) -> None:
    layout, index = ImageLayout(tmp_path / "both"), index_of(images)
    layout.put_index(index, name="v1", images=images)
    assert layout.collect(unused_since=0.0) == (0, 0)
    assert layout.collect()[0] == 8


def test_archive_has_each_blob_of_an_index_once(images: list[OCIImage], tmp_path: Path) -> None:
    path = tmp_path / "both.tar"
    write_index_archive(index_of(images), images, path, name="v1")
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names)) == 2 + 8
    location = parse_location(f"oci-archive:{path}:v1", given_as="base")
    kept = ImageLayout(tmp_path / "kept")
    with open_image(location, platform="linux/arm64", kept=kept, progress=SilentProgress()) as found:
        assert b"".join(found.image.layers.read(found.image.manifest.layers[1]))
    with (
        pytest.raises(BaseImageError, match="but for linux/amd64, linux/arm64/v8"),
        open_image(location, platform="linux/s390x", kept=kept, progress=SilentProgress()),
    ):
        pass
