from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.errors import UsageError, VerifyError
from imagesync.image_layout import Label
from imagesync.pipeline.context import Context
from imagesync.pipeline.verify_build import verify_build
from imagesync.registry.config import ContainerConfig
from imagesync.registry.oci_image import compose_image
from imagesync.registry.oci_layout import ImageLayout
from imagesync.settings.model import Settings
from tests.oci_images import small_image


@pytest.mark.parametrize("budget", [True, 0, -1, "30"])
def test_image_with_a_wrong_form_of_its_layers_is_refused(tmp_path: Path, budget: object) -> None:
    layout = ImageLayout(tmp_path / "images")
    form = json.dumps({"compression": "gzip", "max-layers": budget})
    small_image(layout, {"a": b"a"}, container=ContainerConfig(labels={Label.LAYER_FORM: form}))
    context = Context(Settings(profile="none", cache_dir=tmp_path / "cache"))
    with pytest.raises(VerifyError, match="layer-form is malformed"):
        verify_build(f"oci:{layout.root}:latest", context, lambda *_: pytest.fail("it was built"))


def test_name_without_a_registry_is_looked_for_here_alone(tmp_path: Path) -> None:
    context = Context(Settings(profile="none", cache_dir=tmp_path / "cache"))
    with pytest.raises(UsageError, match="its name has no registry"):
        verify_build("team/env:1", context, lambda *_: pytest.fail("it was built"))


@pytest.mark.parametrize("created", ["", "yesterday"])
def test_image_without_a_time_is_refused(tmp_path: Path, created: str) -> None:
    layout = ImageLayout(tmp_path / "images")
    form = json.dumps({"compression": "gzip", "max-layers": 30})
    image = small_image(layout, {"a": b"a"}, container=ContainerConfig(labels={Label.LAYER_FORM: form}))
    config = replace(image.config, created=created)
    layout.put(compose_image(config, image.manifest.layers, layout), name="latest")
    context = Context(Settings(profile="none", cache_dir=tmp_path / "cache"))
    with pytest.raises(VerifyError, match="time of its creation"):
        verify_build(f"oci:{layout.root}:latest", context, lambda *_: pytest.fail("it was built"))
