"""Documents that imagesync writes, judged by the JSON schemas of the OCI image specification.

``tests/oci_schemas`` is ``schema/`` of github.com/opencontainers/image-spec (Apache-2.0), unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator, ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT4

from imagesync.registry.artifacts import compose_artifact
from imagesync.registry.config import ContainerConfig, History, ImageConfig
from imagesync.registry.manifest import INDEX, Descriptor, Index
from imagesync.registry.oci_image import compose_image
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import put_artifact, small_image

SCHEMAS = Path(__file__).resolve().parents[2] / "oci_schemas"


def validate(content: bytes, name: str) -> None:
    contents = {path.name: json.loads(path.read_text("utf-8")) for path in SCHEMAS.glob("*.json")}
    schema = contents[f"{name}.json"]
    folder = schema["id"].rpartition("/")[0]
    resources = [
        (f"{prefix}{file}", DRAFT4.create_resource(content))
        for file, content in contents.items()
        for prefix in (f"{folder}/", "")
    ]
    Draft4Validator(schema, registry=Registry().with_resources(resources)).validate(json.loads(content))


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path)


def test_layout_manifest_configuration_and_index_are_valid(layout: ImageLayout, tmp_path: Path) -> None:
    container = ContainerConfig(
        env=("PATH=/bin", "A=b=c"),
        entrypoint=("/bin/sh",),
        cmd=("-c", "true"),
        user="1000:1000",
        working_dir="/work",
        labels={"a": "b"},
        exposed_ports=("8786/tcp",),
        volumes=("/data",),
        stop_signal="SIGTERM",
        other={"Healthcheck": {"Test": ["CMD", "true"]}},
    )
    image = small_image(layout, {"a": b"1"}, {"b": b"2"}, container=container, platform="linux/arm64/v8")
    history = (*image.config.history, History("1980-01-01T00:00:00Z", "ENV A=b", "none", empty_layer=True))
    config = ImageConfig(
        "linux/amd64", image.config.diff_ids, container, history, "1980-01-01T00:00:00Z", "me"
    )
    again = compose_image(config, image.manifest.layers, layout, annotations={"x": "y"})
    put_artifact(compose_artifact(b"{}", "application/vnd.cyclonedx+json", subject=image.descriptor), layout)
    for each in (image, again):
        validate(each.content, "image-manifest-schema")
        validate(each.config_content, "config-schema")
    for entry in layout.index().manifests:
        validate(layout.path(entry).read_bytes(), "image-manifest-schema")
    validate((tmp_path / "index.json").read_bytes(), "image-index-schema")
    validate((tmp_path / "oci-layout").read_bytes(), "image-layout-schema")
    validate(Index((image.descriptor, again.descriptor), {"a": "b"}).to_json(), "image-index-schema")


@pytest.mark.parametrize(
    "wrong",
    [Descriptor("not a type", f"sha256:{'0' * 64}", 1), Descriptor(INDEX, "no digest", 1)],
)
def test_schemas_are_in_force(wrong: Descriptor) -> None:
    with pytest.raises(ValidationError):
        validate(Index((wrong,)).to_json(), "image-index-schema")


def test_configuration_is_read_as_it_was_written(layout: ImageLayout) -> None:
    image = small_image(layout, {"a": b"1"})
    entry = layout.index().find("latest")
    assert entry is not None
    again: Any = layout.image(entry)
    assert again == image
    assert again.config.to_json() == image.config_content
    assert again.manifest.to_json() == image.content
