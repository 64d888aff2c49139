"""Whatever lies in the cache folder: used, made again, or named; and nothing hangs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock  # noqa: F401 - nobody may be unable to read where it is installed
import pytest

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import StoreError
from imagesync.store.layout import DERIVED, IN_USE, LOCKS, PARTIAL
from imagesync.store.store import Store

NOBODY = 65534


def folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def circle(path: Path) -> None:
    path.symlink_to(path)


def listening(path: Path) -> None:
    bound = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        bound.bind(path.name)
    finally:
        os.chdir(here)
        bound.close()


ODD = {each.__name__: each for each in (folder, pipe, dangling, circle, listening)}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_blob_is_replaced(store: Store, tried: Callable[[str], None], odd: str) -> None:
    stored = store.add([b"content"], filename="a")
    stored.path.unlink()
    ODD[odd](stored.path)
    tried("cache folder: no file in a blob's place")
    assert store.open(stored.digest, filename="a") is None
    again = store.add([b"content"], filename="a")
    assert again.path.read_bytes() == b"content"
    # Where nobody has looked before it is written, too.
    again.path.unlink()
    ODD[odd](again.path)
    assert store.add([b"content"], filename="a").path.read_bytes() == b"content"


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_entry_is_replaced(store: Store, tried: Callable[[str], None], odd: str) -> None:
    stored = store.add([b"content"], filename="a")
    store.remember("key", stored)
    entry = cache_path(store.root / DERIVED, "key")
    entry.unlink()
    ODD[odd](entry)
    tried("cache folder: no file in an entry's place")
    assert store.recall("key") is None
    store.remember("key", stored)
    assert store.recall("key") is not None
    entry.unlink()
    ODD[odd](entry)
    store.remember("key", stored)
    assert store.recall("key") is not None


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_lock_is_replaced(store: Store, tried: Callable[[str], None], odd: str) -> None:
    with store.lock("a"):
        pass
    ODD[odd](store.root / LOCKS / "a.lock")
    tried("cache folder: no file in a lock's place")
    with store.lock("a"):
        assert (store.root / LOCKS / "a.lock").is_file()


def test_locks_leases_and_parts_of_killed_processes_go_with_the_next_run(store: Store) -> None:
    program = f"""
import os, sys
from pathlib import Path
from imagesync.store.store import Store
store = Store(Path({os.fspath(store.root)!r}))
writer = store.begin()
writer.write(b"half")
with store.lock("build-a"):
    print(flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    assert all(list((store.root / name).iterdir()) for name in (IN_USE, PARTIAL, LOCKS))
    store.add([b"content"], filename="a")
    with store.lock("other"):
        pass
    assert list((store.root / PARTIAL).iterdir()) == []
    assert list((store.root / LOCKS).iterdir()) == []
    assert len(list((store.root / IN_USE).glob("*.lock"))) == 1


@pytest.fixture
def read_only() -> Iterator[Store]:
    """Provide a store with a file that this user, whom permissions bind, may only read."""
    is_root = os.geteuid() == 0
    place = Path(tempfile.mkdtemp())
    store = Store(place / "store")
    store.remember("key", store.add([b"content"], filename="a"))
    paths = [store.root, *store.root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    place.chmod(0o755)
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield Store(store.root)
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        for path in paths:
            path.chmod(0o755)
        shutil.rmtree(place)


def test_warm_cache_that_is_read_only_is_used(read_only: Store) -> None:
    stored = read_only.recall("key")
    assert stored is not None
    assert stored.path.read_bytes() == b"content"
    with read_only.lock("a"):
        pass
    write_cache(cache_path(read_only.root / DERIVED, "other"), {}, key=1)
    assert read_cache(cache_path(read_only.root / DERIVED, "other"), key=1) is None
    with pytest.raises(StoreError, match="can't be used"):
        read_only.add([b"other"], filename="b")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_cache_of_another_user_is_an_error_of_ours(store: Store) -> None:
    store.remember("key", store.add([b"content"], filename="a"))
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        other = Store(store.root)
        assert other.recall("key") is None
        with pytest.raises(StoreError, match="can't be used"):
            other.add([b"other"], filename="b")
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("offset", [-(10**9), 10**9])
def test_entries_of_another_time_are_read_or_made_again(tmp_path: Path, offset: int) -> None:
    path = cache_path(tmp_path / "caches", "x")
    write_cache(path, {"a": 1}, key=1)
    text = path.read_text()
    path.write_text(text.replace('"time": 1', f'"time": {1 if offset < 0 else 9}1'))
    assert read_cache(path, key=1) == {"a": 1}
    assert read_cache(path, key=1, max_age=60) is None
