"""The index of the images of several platforms: its hash, and what it is refused for."""

from __future__ import annotations

import pytest

from imagesync.errors import UsageError
from imagesync.pipeline.environment_hash import index_hash
from imagesync.pipeline.image_request import RequestOptions
from imagesync.pipeline.index_request import IndexRequest
from imagesync.pipeline.outputs import parse_output

AMD64, ARM64 = ("linux/amd64", "sha256:" + "a" * 64), ("linux/arm64", "sha256:" + "b" * 64)


def test_hash_of_an_index_covers_each_image_with_its_platform_and_no_order() -> None:
    both = index_hash(dict([AMD64, ARM64]))
    assert both == index_hash(dict([ARM64, AMD64]))
    others = [{"linux/amd64": AMD64[1]}, {"linux/amd64": ARM64[1], "linux/arm64": AMD64[1]}]
    assert both not in map(index_hash, others)
    # Images in registries are found by it: a change needs another INDEX_FORMAT_VERSION.
    assert both == "sha256:0ccfc2f276a2cb53c438110bd002a854a84e05de325e878379f935c5ba541383"


def test_tags_name_the_index_and_not_its_images() -> None:
    outputs = (parse_output("oci:images"),)
    options = RequestOptions(("a:1", "host.test/a:1"), outputs, push=True, with_digest=True)
    images = IndexRequest.options_of_images(options, "host.test/a")
    assert (images.tags, images.push, images.with_digest) == ((), True, False)
    assert images.index_tags == ("a:1",)


def test_archive_of_docker_takes_no_index() -> None:
    options = RequestOptions(outputs=(parse_output("docker-archive:image.tar"),))
    with pytest.raises(UsageError, match="takes one image"):
        IndexRequest.options_of_images(options, "a")
