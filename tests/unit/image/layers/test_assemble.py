from __future__ import annotations

from pathlib import Path

from imagesync.image.layers.assemble import assemble
from imagesync.image_layout import ImageOptions
from imagesync.registry.config import ContainerConfig
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import small_image


def test_instructions_for_later_dockerfiles_are_not_inherited(tmp_path: Path) -> None:
    other = {"OnBuild": ["RUN make"], "Healthcheck": {"Test": ["NONE"]}}
    base = small_image(ImageLayout(tmp_path), {"a": b""}, container=ContainerConfig(other=other))
    image = assemble(
        base,
        (),
        options=ImageOptions(),
        environment={},
        labels={},
        conda=False,
        activated=False,
        created=315_532_800,
    )
    assert image.config.container.other == {"Healthcheck": {"Test": ["NONE"]}}
