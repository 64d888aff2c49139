"""The first difference between two images, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.image.layers.difference import first_difference
from imagesync.registry.config import ContainerConfig
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import small_image

LAYER: dict[str, bytes | str | tuple[int, int, int]] = {"a": b"1", "b": (0o755, 0, 0), "c": "a", "d": b"2"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({**LAYER, "d": b"3"}, "/d has another content (layer 2: layer 1)"),
        ({**LAYER, "a": b"12"}, "/a has another size: 2 instead of 1 (layer 2: layer 1)"),
        ({**LAYER, "b": (0o700, 0, 0)}, "/b has another mode: 0700 instead of 0755 (layer 2: layer 1)"),
        ({**LAYER, "b": (0o755, 5, 6)}, "/b has another owner: 5:6 instead of 0:0 (layer 2: layer 1)"),
        ({**LAYER, "c": "d"}, "/c has another target: d instead of a (layer 2: layer 1)"),
        ({"a": b"1", "b": (0o755, 0, 0), "d": b"2"}, "/c is missing (layer 2: layer 1)"),
        ({**LAYER, "e": b"5"}, "/e isn't in the other one (layer 2: layer 1)"),
    ],
)
def test_first_file_that_differs_is_named(
    tmp_path: Path, changed: dict[str, bytes | str | tuple[int, int, int]], said: str
) -> None:
    layout = ImageLayout(tmp_path)
    image, other = small_image(layout, {"x": b""}, LAYER), small_image(layout, {"x": b""}, changed)
    assert first_difference(other, image) == said
    assert first_difference(image, image) is None


def test_other_layers_and_other_configurations_are_named(tmp_path: Path) -> None:
    layout = ImageLayout(tmp_path)
    image, more = small_image(layout, LAYER), small_image(layout, LAYER, LAYER)
    labelled = small_image(layout, LAYER, container=ContainerConfig(labels={"team": "data"}))
    assert first_difference(more, image) == "it has 2 layers instead of 1"
    assert first_difference(labelled, image) == (
        'its configuration: config.Cmd is missing instead of ["/bin/true"]'
    )
