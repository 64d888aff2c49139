"""The content-addressed store of artifacts."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from imagesync.errors import HashMismatch, StoreError
from imagesync.store.store import Store
from tests.progress import RecordedLines

CONTENT = b"some wheel" * 1000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def test_added_file_is_opened_by_its_digest(store: Store) -> None:
    assert store.open(DIGEST, filename="a.whl") is None
    stored = store.add([CONTENT[:7], CONTENT[7:]], filename="a.whl")
    assert (stored.filename, stored.digest, stored.size) == ("a.whl", DIGEST, len(CONTENT))
    assert stored.path == store.path(DIGEST)
    assert stored.path.read_bytes() == CONTENT
    assert store.open(DIGEST, filename="a.whl") == stored


def test_store_folder_is_private_to_the_user(store: Store) -> None:
    store.add([CONTENT], filename="a.whl")
    assert store.root.stat().st_mode & 0o077 == 0


def test_reading_an_absent_store_makes_no_folder(store: Store) -> None:
    assert not store.has(DIGEST)
    assert store.recall("key") is None
    assert store.usage().artifacts.files == 0
    assert store.prune().artifacts.files == 0
    assert not store.root.exists()


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "md5:abc", "", DIGEST.upper(), DIGEST + "\n"]
)
def test_path_refuses_what_is_no_digest(store: Store, digest: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        store.path(digest)


def test_wrong_digest_is_refused_and_nothing_kept(store: Store) -> None:
    with pytest.raises(HashMismatch, match=r"a\.whl"):
        store.add([b"other"], filename="a.whl", expected=DIGEST)
    assert store.usage().artifacts.files == 0
    assert [*(store.root / "partial").iterdir()] == []


def test_file_under_way_goes_with_its_block(store: Store) -> None:
    with store.partial_file() as path:
        path.write_bytes(CONTENT)
        assert path.parent == store.root / "partial"
    assert [*(store.root / "partial").iterdir()] == []


def test_interrupted_add_leaves_no_partial_file(store: Store) -> None:
    def chunks() -> object:
        yield b"half"
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        store.add(chunks(), filename="a.whl")  # type: ignore[arg-type]
    assert [*(store.root / "partial").iterdir()] == []


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_corrupt_file_is_removed_and_reported(store: Store, damage: bytes) -> None:
    stored = store.add([CONTENT], filename="a.whl")
    stored.path.write_bytes(damage)
    lines = RecordedLines()
    assert store.open(DIGEST, filename="a.whl", progress=lines) is None
    assert not stored.path.exists()
    assert len(lines.lines) == 1
    assert "a.whl" in lines.lines[0]


def test_derived_file_is_recalled_by_its_key(store: Store) -> None:
    stored = store.add([CONTENT], filename="a.whl")
    store.remember("made from this", stored)
    assert store.recall("made from this") == stored
    assert store.recall("made from that") is None
    (entry,) = (store.root / "derived").iterdir()
    entry.write_text(entry.read_text()[:-20])
    assert store.recall("made from this") is None


def test_added_file_is_a_copy(store: Store, tmp_path: Path) -> None:
    original = tmp_path / "a.whl"
    original.write_bytes(CONTENT)
    stored = store.add_file(original)
    original.write_bytes(b"changed in place")
    assert store.open(DIGEST, filename="a.whl") == stored


def test_lock_is_held_by_one_thread_at_a_time(store: Store) -> None:
    inside = threading.Event()
    leave = threading.Event()

    def hold() -> None:
        with store.lock("a/b c"):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(TimeoutError), store.lock("a/b c", timeout=0):
        pass
    lines = RecordedLines()
    with pytest.raises(TimeoutError), store.lock("a/b c", timeout=0.1, progress=lines):
        pass
    assert len(lines.lines) == 1
    leave.set()
    thread.join()
    with store.lock("a/b c", timeout=0):
        pass


def test_file_in_place_of_the_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match="can't be used") as caught:
        store.add([CONTENT], filename="a.whl")
    assert "IMAGESYNC_CACHE_DIR" in str(caught.value.hint)
    with pytest.raises(StoreError), store.lock("x"):
        pass
