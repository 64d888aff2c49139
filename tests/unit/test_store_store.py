"""The store: what is in it is right, whole, and stays for whoever uses it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.errors import HashMismatch, StoreError
from imagesync.store.cache_folder import default_root
from imagesync.store.prune import prune, usage
from imagesync.store.store import Store

CONTENT = b"some wheel" * 1000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add_elsewhere(root: Path, content: bytes) -> str:
    """Add *content* in a process that has ended when this returns."""
    script = (
        "import sys; from pathlib import Path; from imagesync.store.store import Store\n"
        "print(Store(Path(sys.argv[1])).add([sys.stdin.buffer.read()], filename='x').digest)"
    )
    command = [sys.executable, "-c", script, str(root)]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode().strip()


def test_what_is_added_is_found(store: Store) -> None:
    assert store.open(DIGEST, filename="a.whl") is None
    stored = store.add([CONTENT[:7], CONTENT[7:]], filename="a.whl")
    assert (stored.filename, stored.digest, stored.size) == ("a.whl", DIGEST, len(CONTENT))
    assert stored.path == store.path(DIGEST)
    assert stored.path.read_bytes() == CONTENT
    assert store.open(DIGEST, filename="a.whl") == stored


def test_the_folder_is_the_users_alone(store: Store) -> None:
    store.add([CONTENT], filename="a.whl")
    assert store.root.stat().st_mode & 0o077 == 0


def test_nothing_is_made_by_looking(store: Store) -> None:
    assert not store.has(DIGEST)
    assert store.recall("key") is None
    assert store.usage().files == 0
    assert store.prune().files == 0
    assert not store.root.exists()


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "md5:abc", "", DIGEST.upper(), DIGEST + "\n"]
)
def test_only_a_digest_names_a_file(store: Store, digest: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        store.path(digest)


def test_another_content_is_refused(store: Store) -> None:
    with pytest.raises(HashMismatch, match=r"a\.whl"):
        store.add([b"other"], filename="a.whl", expected=DIGEST)
    assert store.usage().files == 0
    assert [*(store.root / "partial").iterdir()] == []


def test_a_failing_source_leaves_nothing(store: Store) -> None:
    def chunks() -> object:
        yield b"half"
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        store.add(chunks(), filename="a.whl")  # type: ignore[arg-type]
    assert [*(store.root / "partial").iterdir()] == []


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_a_corrupt_file_is_removed_and_said(store: Store, damage: bytes) -> None:
    stored = store.add([CONTENT], filename="a.whl")
    stored.path.write_bytes(damage)
    lines = Lines()
    assert store.open(DIGEST, filename="a.whl", progress=lines) is None
    assert not stored.path.exists()
    assert len(lines.said) == 1
    assert "a.whl" in lines.said[0]


def test_what_was_made_is_remembered(store: Store) -> None:
    stored = store.add([CONTENT], filename="a.whl")
    store.remember("made from this", stored)
    assert store.recall("made from this") == stored
    assert store.recall("made from that") is None
    (note,) = (store.root / "derived").iterdir()
    note.write_text('{"digest": ')
    assert store.recall("made from this") is None
    assert not note.exists()


def test_a_copy_is_taken_of_a_file(store: Store, tmp_path: Path) -> None:
    original = tmp_path / "a.whl"
    original.write_bytes(CONTENT)
    stored = store.add_file(original)
    original.write_bytes(b"changed in place")
    assert store.open(DIGEST, filename="a.whl") == stored


def test_pruning_spares_what_this_process_uses(store: Store) -> None:
    mine = store.add([CONTENT], filename="a.whl")
    other = add_elsewhere(store.root, b"other")
    assert usage(store.root).files == 2
    removed = prune(store.root)
    assert (removed.files, removed.size) == (1, len(b"other"))
    assert store.has(mine.digest)
    assert not store.has(other)


def test_pruning_by_age_goes_by_the_last_use(store: Store) -> None:
    old, new = add_elsewhere(store.root, b"old"), add_elsewhere(store.root, b"new")
    os.utime(store.path(old), (1_000_000_000, 1_000_000_000))
    assert store.prune(older_than=3600).files == 1
    assert (store.has(old), store.has(new)) == (False, True)


def test_pruning_forgets_what_was_made_of_what_is_gone(store: Store) -> None:
    digest = add_elsewhere(store.root, CONTENT)
    store.remember("key", store.add([b"kept"], filename="b"))
    note = store.root / "derived" / "x.json"
    note.write_text(f'{{"digest": "{digest}", "filename": "a"}}')
    store.prune()
    assert not note.exists()
    assert store.recall("key") is not None


def test_one_at_a_time_holds_a_lock(store: Store) -> None:
    inside = threading.Event()
    leave = threading.Event()

    def hold() -> None:
        with store.lock("a/b c"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(TimeoutError), store.lock("a/b c", timeout=0):
        pass
    lines = Lines()
    with pytest.raises(TimeoutError), store.lock("a/b c", timeout=0.1, progress=lines):
        pass
    assert len(lines.said) == 1
    leave.set()
    thread.join()
    with store.lock("a/b c", timeout=0):
        pass


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match="can't be used") as caught:
        store.add([CONTENT], filename="a.whl")
    assert "IMAGESYNC_CACHE_DIR" in str(caught.value.hint)
    with pytest.raises(StoreError), store.lock("x"):
        pass


def test_the_folder_can_be_chosen(tmp_path: Path) -> None:
    assert default_root({"IMAGESYNC_CACHE_DIR": str(tmp_path)}) == tmp_path
    assert default_root({}).name == "imagesync"
