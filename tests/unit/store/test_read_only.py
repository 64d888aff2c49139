"""A cache folder that can only be read, and a folder of links to its files that stands for it."""

from __future__ import annotations

from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.store.layout import LAYERS
from imagesync.store.read_only import is_read_only, link_entries, new_files
from imagesync.store.store import Store


def test_folder_that_can_be_written_or_is_missing_is_not_read_only(tmp_path: Path) -> None:
    assert not is_read_only(tmp_path)
    assert not is_read_only(tmp_path / "missing")


def test_links_have_what_the_cache_folder_has_and_take_what_is_new(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    root, links = tmp_path / "cache", tmp_path / "links"
    store = Store(root)
    kept = store.add([b"content"], filename="a")
    store.remember("key", kept)
    write_cache(cache_path(root / LAYERS, "entry"), 1, key=0)
    link_entries(root, links)
    other = Store(links)
    found = other.recall("key")
    assert found is not None
    assert found.digest == kept.digest
    assert new_files(links) == (0, 0)
    other.add([b"more"], filename="b")
    write_cache(cache_path(links / LAYERS, "entry"), 2, key=0)
    assert new_files(links) == (1, 4)
    assert read_cache(cache_path(links / LAYERS, "entry"), key=0) == 2
    assert read_cache(cache_path(root / LAYERS, "entry"), key=0) == 1


def test_damaged_file_is_removed_from_the_links_alone(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    store = Store(tmp_path / "cache")
    kept = store.add([b"content"], filename="a")
    store.path(kept.digest).write_bytes(b"other")
    link_entries(store.root, tmp_path / "links")
    assert Store(tmp_path / "links").open(kept.digest, filename="a") is None
    assert store.path(kept.digest).read_bytes() == b"other"
