"""Layouts are pruned: what no image needs goes, and what another process may be writing stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from imagesync.errors import LayoutError
from imagesync.registry.artifacts import compose_artifact, layout_artifacts, put_artifact
from imagesync.registry.manifest import LAYER_GZIP
from imagesync.registry.oci_layout import ImageLayout
from tests.commands import CommandLine
from tests.oci_images import small_image

LONG_AGO = time.time() - 90 * 86_400


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "layout")


def age(layout: ImageLayout) -> None:
    for path in (layout.root / "blobs/sha256").iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))


def test_image_that_was_used_stays_and_shared_layers_with_it(layout: ImageLayout) -> None:
    shared = {"shared": b"0"}
    old = small_image(layout, shared, {"old": b"1"}, name="old")
    new = small_image(layout, shared, {"new": b"2"}, name="new")
    document = compose_artifact(b"{}", "application/vnd.cyclonedx+json", subject=new.descriptor)
    put_artifact(document, layout)
    age(layout)
    entry = layout.index().find("new")
    assert entry is not None
    layout.image(entry)
    blobs, size = layout.usage()
    removed, freed = layout.collect(unused_since=time.time() - 86_400)
    assert layout.usage() == (blobs - removed, size - freed)
    assert layout.index().names == ("new",)
    assert not layout.has(old.manifest.layers[1])
    for layer in new.manifest.layers:
        assert b"".join(layout.read(layer))


def test_everything_goes_but_what_may_be_waiting_for_its_manifest(layout: ImageLayout) -> None:
    image = small_image(layout, {"a": b"1"})
    waiting = layout.add_bytes(b"layer of another process", LAYER_GZIP)
    assert layout.collect() == (3, image.size + len(image.content) + len(image.config_content))
    assert layout.has(waiting)
    assert layout.index().manifests == ()
    age(layout)
    assert layout.collect()[0] == 1


def test_damaged_and_missing_layouts_are_pruned(layout: ImageLayout) -> None:
    assert layout.collect() == (0, 0)
    image = small_image(layout, {"a": b"1"})
    layout.path(image.descriptor).write_bytes(b"damaged")
    assert layout.collect()[0] == 1
    age(layout)
    assert layout.collect()[0] == 2
    assert layout_artifacts(layout, image.digest) == []


def test_full_disk_and_foreign_folder_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("[]")
    layout = ImageLayout(tmp_path)
    with pytest.raises(LayoutError, match="isn't a JSON object"):
        layout.index()
    (tmp_path / "file").write_text("")
    with pytest.raises(LayoutError, match="can't be used: Not a directory"):
        ImageLayout(tmp_path / "file").add_bytes(b"1", LAYER_GZIP)


def test_killed_writer_leaves_the_layout_as_it_was(layout: ImageLayout) -> None:
    small_image(layout, {"a": b"1"})
    before = layout.usage()
    writer = layout.begin()
    writer.write(b"half of a bl")
    # As after a kill: nothing was committed, and what was begun goes with the next pruning.
    writer._file.close()
    assert layout.usage() == before
    (partial,) = (layout.root / ".partial").iterdir()
    os.utime(partial, (LONG_AGO, LONG_AGO))
    layout.collect(unused_since=LONG_AGO)
    assert not partial.exists()
    assert layout.usage() == before


def test_cache_command_counts_and_prunes_images(cli: CommandLine, cache_dir: Path) -> None:
    small_image(ImageLayout(cache_dir / "images"), {"a": b"1"}, name="imagesync:1")
    assert "3 blobs" in cli("cache", "info").stdout
    assert "3 image blobs removed" in cli("cache", "prune").stdout
    assert cli("cache", "info", "--format", "json").json()["layout"] == {"files": 0, "size": 0}
