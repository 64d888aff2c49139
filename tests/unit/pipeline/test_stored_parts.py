"""Parts of layers in the store, by what they follow from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from imagesync.core.cache_file import write_cache
from imagesync.image.layers.layer import Layer
from imagesync.image.layers.parts import Part
from imagesync.pipeline.stored_parts import StoredParts
from imagesync.registry.manifest import Descriptor
from imagesync.store.layout import PACKAGES
from imagesync.store.prune import prune
from imagesync.store.store import Store


def make_layer(store: Store) -> Layer:
    part = Part("toolz", store.add([b"part"], filename="toolz"), ((4, 10),), {}, inputs="inputs")
    digest = f"sha256:{hashlib.sha256(b'layer').hexdigest()}"
    return Layer("toolz", Descriptor("application/octet-stream", digest, 5), digest, parts=(part,))


@pytest.mark.parametrize("damage", ["not JSON", "another format"])
def test_damaged_entry_of_a_part_is_written_again(store: Store, damage: str) -> None:
    layer = make_layer(store)
    (part,) = layer.parts
    parts = StoredParts(store)
    parts.remember([layer], [], [])
    assert parts.find("inputs") == part
    (entry,) = (store.root / PACKAGES).iterdir()
    if damage == "not JSON":
        entry.write_text("{")
    else:
        write_cache(entry, {"digest": part.stored.digest}, key=0)
    assert parts.find("inputs") is None
    parts.remember([layer], [], [])
    assert parts.find("inputs") == part


@pytest.mark.parametrize("is_wanted", [True, False])
def test_part_that_was_found_is_not_pruned(tmp_path: Path, is_wanted: bool) -> None:
    writer = Store(tmp_path)
    StoredParts(writer).remember([make_layer(writer)], [], [])
    # Ends its use of the part.
    del writer
    reader = StoredParts(Store(tmp_path))
    if is_wanted:
        assert reader.find("inputs") is not None
    assert prune(tmp_path).artifacts.files == (0 if is_wanted else 1)
