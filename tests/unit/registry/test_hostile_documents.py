"""Documents of images that are damaged or hostile are refused in a sentence, never with a traceback."""

from __future__ import annotations

import base64
import json
import lzma
import tarfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest

from imagesync.core.strict_json import load_json
from imagesync.errors import LayoutError
from imagesync.image.image_report import image_report
from imagesync.image.report_page import report_page
from imagesync.image_layout import LAYER_CONTENTS, Label
from imagesync.inventory.inventory import from_text
from imagesync.registry.archive import ImageArchive
from imagesync.registry.config import ContainerConfig, ImageConfig, parse_config
from imagesync.registry.manifest import LAYER_GZIP, Descriptor, parse_json, parse_manifest

DEEP = "[" * 100_000
HALF = json.dumps("\ud800")


def short(text: str) -> str:
    """Return a readable ID of a parameter."""
    return text[:20]


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"a":' * 100_000, HALF, f"[{HALF}]", "{" + HALF + ":1}", "1e999", "[-1e999]", "NaN", "", "{"],
    ids=short,
)
def test_bad_json_is_a_value_error(text: str) -> None:
    for content in (text, text.encode()):
        with pytest.raises(ValueError, match=r"it isn't JSON|isn't Unicode"):
            load_json(content)


def test_surrogates_are_refused_as_bytes_too_and_pairs_are_text() -> None:
    with pytest.raises(ValueError, match="isn't JSON"):
        load_json(b'"\xed\xa0\x80"')
    assert load_json(json.dumps("\U0001f600")) == "\U0001f600"
    with pytest.raises(ValueError, match="isn't Unicode"):
        parse_config(json.dumps({"config": {"Labels": {"a": "\ud800"}}}).encode())
    for parse in (parse_json, parse_manifest):
        with pytest.raises(ValueError, match="isn't JSON"):
            parse(DEEP.encode())


@pytest.mark.parametrize(
    "contents", ['{"a": 1e999}', DEEP, '{"a": 1' + "0" * 400 + "}", "[1]", '{"a": "x"}'], ids=short
)
def test_report_and_page_take_any_label(contents: str) -> None:
    layer = Descriptor(LAYER_GZIP, f"sha256:{'0' * 64}", 100, {LAYER_CONTENTS: contents})
    labels = {Label.DEVIATIONS: contents, Label.INVENTORY: contents}
    config = ImageConfig("linux/amd64", (layer.digest,), ContainerConfig(labels=labels))
    report = image_report("env", digest=layer.digest, config=config, layers=[layer])
    assert report.layers[0].contents == {}
    assert (report.deviations, report.inventory) == ((), None)
    assert "<html" in report_page(report)
    json.dumps(report.to_dict())


def test_deep_inventory_is_none() -> None:
    assert from_text(base64.b64encode(zlib.compress(DEEP.encode())).decode()) is None


@pytest.mark.parametrize(
    "manifest", [DEEP, "{}", "1", f"[{HALF}]", '[{"Config": [], "RepoTags": null}]'], ids=short
)
def test_docker_archive_with_bad_manifest_is_refused(tmp_path: Path, manifest: str) -> None:
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(manifest)
        archive.addfile(entry, BytesIO(manifest.encode()))
    with ImageArchive(path) as archive_read, pytest.raises(LayoutError, match="can't be used"):
        archive_read.docker_image()


def test_damaged_xz_is_refused(tmp_path: Path) -> None:
    content = bytearray(lzma.compress(bytes(range(256)) * 400))
    content[40:60] = b"x" * 20
    path = tmp_path / "image.tar.xz"
    path.write_bytes(content)
    with pytest.raises(LayoutError, match="isn't a whole tar archive"):
        ImageArchive(path)
