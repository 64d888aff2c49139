"""Layouts are pruned: what no image needs goes, and what another process may be writing stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.errors import LayoutError
from imagesync.registry.artifacts import compose_artifact, layout_artifacts
from imagesync.registry.image_source import KeptBlobs
from imagesync.registry.manifest import LAYER_GZIP, Descriptor, Index
from imagesync.registry.oci_layout import ImageLayout
from tests.commands import CommandLine
from tests.oci_images import put_artifact, small_image

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
    for image in (old, new):
        layout.image(image.descriptor)
    layout.touch(new.descriptor)
    blobs, size = layout.usage()
    removed, freed = layout.collect(unused_since=time.time() - 86_400)
    assert layout.usage() == (blobs - removed, size - freed)
    assert layout.index().names == ("new",)
    assert not layout.has(old.manifest.layers[1])
    for layer in new.manifest.layers:
        assert b"".join(layout.read(layer))


def test_file_that_the_store_has_too_is_counted_there(layout: ImageLayout, tmp_path: Path) -> None:
    content = b"layer"
    file, descriptor = tmp_path / "file", Descriptor.of(content, LAYER_GZIP)
    file.write_bytes(content)
    layout.link(descriptor, file)
    assert layout.path(descriptor).samefile(file)
    assert layout.usage() == (1, 0)
    age(layout)
    layout.put_index(Index(), name="")
    assert layout.collect() == (2, len(Index().to_json()))
    assert file.read_bytes() == content


def test_link_changes_no_blob_that_is_there(layout: ImageLayout, tmp_path: Path) -> None:
    descriptor = layout.add_bytes(b"layer", LAYER_GZIP)
    file = tmp_path / "file"
    file.write_bytes(b"layer")
    layout.link(descriptor, file)
    assert not layout.path(descriptor).samefile(file)
    assert layout.verify(descriptor)


def test_everything_goes_but_what_may_be_waiting_for_its_manifest(layout: ImageLayout) -> None:
    image = small_image(layout, {"a": b"1"})
    waiting = layout.add_bytes(b"layer of another process", LAYER_GZIP)
    assert layout.collect() == (3, image.size + len(image.content) + len(image.config_content))
    assert layout.has(waiting)
    assert layout.index().manifests == ()
    age(layout)
    assert layout.collect()[0] == 1


class _PruningFirst:
    """Blobs of another layout, before whose first one a layout is pruned by another process."""

    def __init__(self, source: ImageLayout, pruned: ImageLayout) -> None:
        self._source = source
        self._to_prune = [ImageLayout(pruned.root)]

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        if self._to_prune:
            self._to_prune.pop().collect()
        yield from self._source.read(descriptor)


def test_layers_that_are_pruned_while_an_image_is_put_are_put_again(
    layout: ImageLayout, tmp_path: Path
) -> None:
    shared = {"shared": b"0"}
    small_image(layout, shared, name="old")
    elsewhere = ImageLayout(tmp_path / "elsewhere")
    new = small_image(elsewhere, shared, {"new": b"2"})
    layout.put(replace(new, layers=_PruningFirst(elsewhere, layout)), name="new")
    assert layout.index().names == ("new",)
    assert all(map(layout.verify, new.manifest.blobs))


def test_damaged_blob_of_the_cache_is_removed_and_one_of_a_users_layout_stays(layout: ImageLayout) -> None:
    image = small_image(layout, {"a": b"1"})
    (layer,) = image.manifest.layers
    layout.path(layer).write_bytes(b"x" * layer.size)
    assert not layout.verify(layer)
    assert layout.has(layer)
    with pytest.raises(LayoutError, match="is damaged"):
        list(ImageLayout(layout.root, is_cache=True).read(layer))
    assert not layout.has(layer)


def test_damaged_layer_of_a_base_is_fetched_again(layout: ImageLayout, tmp_path: Path) -> None:
    source = ImageLayout(tmp_path / "source")
    (layer,) = small_image(source, {"a": b"1"}).manifest.layers
    kept = ImageLayout(layout.root, is_cache=True)
    kept.copy(layer, source.read(layer))
    kept.path(layer).write_bytes(b"x" * layer.size)
    blobs = KeptBlobs(source, kept)
    assert b"".join(blobs.read(layer)) == b"".join(source.read(layer)) == b"".join(kept.read(layer))


def test_damaged_document_of_one_image_leaves_those_of_others(layout: ImageLayout) -> None:
    cache = ImageLayout(layout.root, is_cache=True)
    ours, other = (small_image(layout, {name: b"1"}, name=name) for name in ("ours", "other"))
    ours_document, damaged = (
        compose_artifact(b"{}", "application/vnd.cyclonedx+json", subject=image.descriptor)
        for image in (ours, other)
    )
    for document in (ours_document, damaged):
        put_artifact(document, layout)
    layout.path(damaged.descriptor).write_bytes(b"x" * damaged.descriptor.size)
    for _ in ("damaged", "removed"):
        assert layout_artifacts(cache, ours.digest) == [ours_document]
        assert layout_artifacts(cache, other.digest) == []


def test_damaged_image_is_no_hit(layout: ImageLayout) -> None:
    whole, manifest, layer = (small_image(layout, {name: b"1"}, name=name) for name in ("a", "b", "c"))
    layout.path(manifest.descriptor).write_bytes(b"x" * manifest.descriptor.size)
    layout.path(layer.manifest.layers[0]).unlink()
    assert layout.whole_image("a") == whole
    assert [layout.whole_image(name) for name in ("b", "c", "d")] == [None, None, None]


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
