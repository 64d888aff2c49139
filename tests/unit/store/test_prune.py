"""What the cache folder takes, and pruning it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.store.layout import CACHES, DERIVED, LOCKS, LOGS, PACKAGES, PACKAGES_FORMAT, TREES
from imagesync.store.prune import Total, prune, usage
from imagesync.store.store import Store
from tests.commands import CommandLine

CONTENT = b"some wheel" * 1000
LONG_AGO = (1_000_000_000, 1_000_000_000)


def add_in_another_process(root: Path, content: bytes) -> str:
    """Add *content* in a process that has ended when this returns, and return its digest."""
    script = (
        "import sys; from pathlib import Path; from imagesync.store.store import Store\n"
        "store = Store(Path(sys.argv[1])); file = store.add([sys.stdin.buffer.read()], filename='x')\n"
        "store.remember(f'made of {file.size} bytes', file); print(file.digest)"
    )
    command = [sys.executable, "-c", script, str(root)]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode().strip()


def write_everywhere(root: Path) -> list[Path]:
    """Write an entry of each cache and a log, and return their paths."""
    paths = [cache_path(root / folder, "about this") for folder in CACHES]
    for path in paths:
        write_cache(path, "content", key=1)
    log = root / LOGS / "demo-1.0.log"
    log.parent.mkdir()
    log.write_text("a line\n")
    return [*paths, log]


def test_prune_spares_what_a_running_process_uses(store: Store) -> None:
    mine = store.add([CONTENT], filename="a.whl")
    other = add_in_another_process(store.root, b"other")
    assert usage(store.root).artifacts.files == 2
    assert prune(store.root).artifacts == Total(1, len(b"other"))
    assert store.has(mine.digest)
    assert not store.has(other)


def test_prune_by_age_goes_by_the_last_use(store: Store) -> None:
    old, new = (add_in_another_process(store.root, content) for content in (b"old", b"new"))
    os.utime(store.path(old), LONG_AGO)
    assert store.prune(older_than=3600).artifacts.files == 1
    assert (store.has(old), store.has(new)) == (False, True)


@pytest.mark.parametrize("damage", [[], {"part": 1}, {"archives": None}, {"archives": ["../x", 1]}])
def test_archives_are_removed_where_the_part_is(store: Store, damage: dict[str, object] | list[str]) -> None:
    names = (b"archive", b"part", b"alone", b"gone")
    archive, part, alone, gone = (add_in_another_process(store.root, name) for name in names)
    store.path(gone).unlink()
    entries = [
        {"part": part, "archives": [archive]},
        {"part": gone, "archives": [alone]},
        {"part": part, "archives": [alone], **damage} if isinstance(damage, dict) else damage,
    ]
    for number, entry in enumerate(entries):
        write_cache(cache_path(store.root / PACKAGES, number), entry, key=PACKAGES_FORMAT)
    assert store.prune_archives().artifacts == Total(1, len(b"archive"))
    assert not store.has(archive)
    assert all(map(store.has, (part, alone)))


def test_archive_that_a_running_process_uses_stays(store: Store) -> None:
    archive = store.add([b"archive"], filename="a.whl").digest
    part = add_in_another_process(store.root, b"part")
    entry = {"part": part, "archives": [archive]}
    write_cache(cache_path(store.root / PACKAGES, "a"), entry, key=PACKAGES_FORMAT)
    assert Store(store.root).prune_archives(with_own=True).artifacts.files == 0
    assert store.prune_archives().artifacts.files == 0
    assert store.prune_archives(with_own=True).artifacts.files == 1


def test_prune_removes_entries_about_removed_artifacts(store: Store) -> None:
    add_in_another_process(store.root, CONTENT)
    store.remember("key", store.add([b"kept"], filename="b"))
    assert len([*(store.root / "derived").iterdir()]) == 2
    store.prune()
    assert len([*(store.root / "derived").iterdir()]) == 1
    assert store.recall("key") is not None


def test_usage_and_prune_cover_every_folder(store: Store) -> None:
    paths = write_everywhere(store.root)
    with store.lock("build-1"):
        pass
    used = store.usage()
    assert (used.caches.files, used.logs) == (len(CACHES), Total(1, 7))
    assert used.to_dict() == {
        "root": str(store.root),
        "files": 0,
        "size": 0,
        "caches": {"files": len(CACHES), "size": used.caches.size},
        "logs": {"files": 1, "size": 7},
    }
    assert store.prune() == used
    assert not any(path.exists() for path in paths)
    assert [*(store.root / LOCKS).iterdir()] == []


def test_prune_by_age_spares_caches_that_were_read_since(store: Store) -> None:
    paths = write_everywhere(store.root)
    for path in paths:
        os.utime(path, LONG_AGO)
    read = cache_path(store.root / TREES, "about this")
    assert read_cache(read, key=1) == "content"
    assert prune(store.root, older_than=3600).caches.files == len(CACHES) - 1
    assert [path for path in paths if path.exists()] == [read]


def test_looking_for_superfluous_archives_makes_no_entry_younger(store: Store) -> None:
    archive, part = (add_in_another_process(store.root, name) for name in (b"archive", b"part"))
    path = cache_path(store.root / PACKAGES, "a package")
    write_cache(path, {"part": part, "archives": [archive]}, key=PACKAGES_FORMAT)
    derived = [*(store.root / DERIVED).iterdir()]
    for old in (path, *derived):
        os.utime(old, LONG_AGO)
    # As each build does with keep-archives = false.
    assert store.prune_archives().artifacts.files == 1
    assert store.prune(older_than=3600).caches.files == 1
    assert not path.exists()
    (kept,) = (store.root / DERIVED).iterdir()
    assert kept.stat().st_mtime == LONG_AGO[1]


def test_prune_spares_a_lock_that_is_held(store: Store) -> None:
    with store.lock("build-1"):
        prune(store.root)
        with pytest.raises(TimeoutError), store.lock("build-1", timeout=0):
            pass


def test_cache_commands_show_and_remove_everything(cli: CommandLine, cache_dir: Path, tmp_path: Path) -> None:
    add_in_another_process(cache_dir, CONTENT)
    write_everywhere(cache_dir)
    shown = cli("cache", "info", "--format", "json").json()
    assert (shown["root"], shown["files"], shown["size"]) == (str(cache_dir), 1, len(CONTENT))
    assert (shown["caches"]["files"], shown["logs"]) == (len(CACHES), {"files": 1, "size": 7})
    elsewhere = cli("cache", "info", "--cache-dir", tmp_path / "elsewhere", "--format", "json").json()
    assert (elsewhere["files"], elsewhere["caches"]["files"]) == (0, 0)
    text = cli("cache", "info").stdout
    assert "1, 10 kB" in text
    removed = cli("cache", "prune").stdout
    assert "1 artifact removed, 10 kB" in removed
    assert f"{len(CACHES)} cache entries removed" in removed
    assert "1 log removed" in removed
    assert cli("cache", "info", "--format", "json").json()["size"] == 0
