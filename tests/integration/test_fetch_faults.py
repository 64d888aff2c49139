"""Fetching when something goes wrong: the network, the index, the disk, the user's patience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagesync.core.progress import Severity, SilentProgress, Task, Unit
from imagesync.errors import ArtifactGone, FetchError, HashMismatch, StoreError
from imagesync.indexes.pypi.access import Access
from imagesync.store.download import Download
from imagesync.store.parallel_fetch import fetch, fetch_available
from imagesync.store.store import Store, StoredFile
from tests.indexes import CountingProxy, Fault, LocalIndex
from tests.processes import PATIENCE, wait_until

LARGE = 3 * 1024 * 1024


class Recorder(SilentProgress):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = 0
        self.total = 0

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        assert unit == "bytes"
        self.total += total or 0
        yield self

    def advance(self, amount: int) -> None:
        self.done += amount

    def grow(self, amount: int) -> None:
        self.total += amount

    def describe(self, text: str) -> None: ...

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        if severity.is_shown(Severity.INFO):
            self.lines.append(severity.lead + text)


def large(index: LocalIndex, name: str = "large") -> str:
    return index.add_wheel(name, "1.0", files={f"{name}.bin": os.urandom(LARGE)})


def wanted(index: LocalIndex, *filenames: str, sized: bool = True) -> list[Download]:
    sizes = {name: len(index.data(name)) if sized else None for name in filenames}
    return [Download(index.file_url(name), index.digest(name), name, sizes[name]) for name in filenames]


def get(downloads: list[Download], store: Store, progress: Recorder | None = None) -> tuple[StoredFile, ...]:
    access = Access(timeout=20)
    return fetch(downloads, store=store, access=access, progress=progress or Recorder())


def partial(store: Store) -> list[Path]:
    return [*(store.root / "partial").glob("*")]


def test_each_is_fetched_once_and_never_anew(index: LocalIndex, store: Store) -> None:
    names = [index.add_wheel(f"demo{number}", "1.0") for number in range(20)]
    for sized in (True, False):
        progress = Recorder()
        found = get(wanted(index, *names, *names[:3], sized=sized), store, progress)
        assert [file.filename for file in found] == [*names, *names[:3]]
        assert [file.path.read_bytes() for file in found[:20]] == [index.data(name) for name in names]
        assert progress.done == progress.total
    assert index.downloads() == 20


def test_progress_without_sizes_ends_at_its_total(index: LocalIndex, store: Store) -> None:
    progress = Recorder()
    get(wanted(index, large(index), sized=False), store, progress)
    assert progress.done == progress.total > LARGE


def test_a_broken_connection_is_resumed(index: LocalIndex, store: Store) -> None:
    name = large(index)
    index.fault(name, Fault(cut_after=1024 * 1024, times=2))
    progress = Recorder()
    get(wanted(index, name), store, progress)
    assert store.has(index.digest(name))
    ranges = [request.range for request in index.requests]
    assert len(ranges) == 3
    assert ranges[0] is None
    assert all(str(asked).startswith("bytes=") for asked in ranges[1:])
    assert progress.done == progress.total


def test_a_reset_connection_is_tried_again(index: LocalIndex, store: Store) -> None:
    name = large(index)
    index.fault(name, Fault(cut_after=1024 * 1024, reset=True, times=2))
    progress = Recorder()
    get(wanted(index, name), store, progress)
    assert index.downloads(name) == 3
    assert progress.done == progress.total


def test_a_server_error_passes_by_itself(index: LocalIndex, store: Store) -> None:
    name = index.add_wheel("demo", "1.0")
    index.fault(name, Fault(status=503, times=2))
    get(wanted(index, name), store)
    assert index.downloads(name) == 3


def test_attempts_come_to_an_end(index: LocalIndex, store: Store) -> None:
    name = index.add_wheel("demo", "1.0")
    index.fault(name, Fault(status=500))
    with pytest.raises(FetchError, match="after 5 attempts: the server answers 500"):
        get(wanted(index, name), store)
    assert index.downloads(name) == 5
    assert partial(store) == []


def test_index_that_falls_silent_is_asked_once_more(index: LocalIndex, store: Store) -> None:
    name, never = index.add_wheel("demo", "1.0"), threading.Event()
    index.fault(name, Fault(hold=never))
    try:
        with pytest.raises(FetchError, match="after 2 attempts"):
            fetch(wanted(index, name), store=store, access=Access(timeout=1), progress=Recorder())
    finally:
        never.set()
    assert index.downloads(name) == 2
    assert partial(store) == []


def test_a_missing_file_is_not_asked_for_twice(index: LocalIndex, store: Store) -> None:
    name = index.add_wheel("demo", "1.0")
    index.fault(name, Fault(status=404))
    with pytest.raises(FetchError, match="answers 404") as caught:
        get(wanted(index, name), store)
    assert "imagesync lock" in str(caught.value.hint)
    assert index.downloads(name) == 1


@pytest.mark.parametrize("status", [404, 410])
def test_whoever_asks_for_what_is_available_gets_the_rest(
    index: LocalIndex, store: Store, status: int
) -> None:
    names = [index.add_wheel(f"demo{number}", "1.0") for number in range(3)]
    index.fault(names[1], Fault(status=status))
    progress = Recorder()
    found = fetch_available(wanted(index, *names), store=store, access=Access(), progress=progress)
    assert [getattr(file, "filename", None) for file in found] == [names[0], None, names[2]]
    assert isinstance(found[1], ArtifactGone)
    assert f"answers {status}" in found[1].message
    assert progress.done == progress.total


def test_a_wrong_hash_is_refused_and_nothing_kept(index: LocalIndex, store: Store) -> None:
    name = index.add_wheel("demo", "1.0")
    index.fault(name, Fault(corrupt=True))
    with pytest.raises(HashMismatch, match=name):
        get(wanted(index, name), store)
    assert store.usage().artifacts.files == 0
    assert partial(store) == []


def test_a_corrupt_file_in_the_store_is_fetched_again(index: LocalIndex, store: Store) -> None:
    name = index.add_wheel("demo", "1.0")
    (file,) = get(wanted(index, name), store)
    file.path.write_bytes(b"x" * file.size)
    progress = Recorder()
    (again,) = get(wanted(index, name), store, progress)
    assert again.path.read_bytes() == index.data(name)
    assert index.downloads(name) == 2
    assert len(progress.lines) == 1
    assert name in progress.lines[0]
    assert "corrupt" in progress.lines[0]
    assert progress.done == progress.total


def test_a_file_url_is_copied(tmp_path: Path, index: LocalIndex, store: Store) -> None:
    name = index.add_wheel("demo", "1.0")
    source = tmp_path / "a b é" / name
    source.parent.mkdir()
    source.write_bytes(index.data(name))
    (file,) = get([Download(source.as_uri(), index.digest(name), name)], store)
    assert file.path.stat().st_ino != source.stat().st_ino
    assert file.path.read_bytes() == index.data(name)
    source.unlink()
    get([Download(source.as_uri(), index.digest(name), name)], store)
    store.prune()


def test_a_file_url_that_is_gone(tmp_path: Path, store: Store) -> None:
    with pytest.raises(FetchError, match="can't be read"):
        get([Download((tmp_path / "gone.whl").as_uri(), "sha256:" + "1" * 64, "gone.whl")], store)
    assert partial(store) == []


def test_two_processes_fetch_a_file_once(index: LocalIndex, store: Store) -> None:
    name = large(index)
    release = threading.Event()
    index.fault(name, Fault(hold=release, times=1))
    first = start(index, store, name)
    assert index.half_sent.wait(PATIENCE)
    second = start(index, store, name)
    assert second.stdout is not None
    assert "Waiting for another process" in second.stdout.readline()
    release.set()
    assert [process.communicate(timeout=PATIENCE)[1] for process in (first, second)] == ["", ""]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert index.downloads(name) == 1
    assert partial(store) == []


def test_an_interrupt_ends_at_once_and_leaves_nothing(index: LocalIndex, store: Store) -> None:
    names = [large(index, f"large{count}") for count in range(3)]
    release = threading.Event()
    for name in names:
        index.fault(name, Fault(hold=release))
    process = start(index, store, *names)
    assert index.half_sent.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        release.set()
        process.kill()
    assert process.returncode == 130, said
    assert partial(store) == []
    assert store.usage().artifacts.files == 0


def test_a_killed_process_leaves_nothing_that_prune_does_not_find(index: LocalIndex, store: Store) -> None:
    name = large(index)
    release = threading.Event()
    index.fault(name, Fault(hold=release, times=1))
    process = start(index, store, name)
    assert index.half_sent.wait(PATIENCE)
    wait_for(lambda: any(path.stat().st_size for path in partial(store)), process)
    process.kill()
    process.communicate()
    release.set()
    assert len(partial(store)) == 1
    # The next one isn't held up by the dead one's lock.
    get(wanted(index, name), store)
    store.prune()
    assert partial(store) == []
    assert store.has(index.digest(name)), "this process uses it"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root")
def test_full_disk_leaves_nothing_partial_and_hints_at_prune(index: LocalIndex, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=2m") as folder:
        store = Store(folder / "store")
        with pytest.raises(StoreError, match="No space is left") as caught:
            get(wanted(index, large(index)), store)
        assert "imagesync cache prune" in str(caught.value.hint)
        assert partial(store) == []
        get(wanted(index, index.add_wheel("small", "1.0")), store)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root")
def test_a_store_that_is_not_writable(index: LocalIndex, tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "ro") as folder:
        store = Store(folder / "store")
        with pytest.raises(StoreError, match="can't be used") as caught:
            get(wanted(index, index.add_wheel("demo", "1.0")), store)
        assert "IMAGESYNC_CACHE_DIR" in str(caught.value.hint)


def test_certificates_and_trusted_hosts(tmp_path: Path) -> None:
    with LocalIndex(tls=True) as index:
        name = index.add_wheel("demo", "1.0")
        for number, access in enumerate(
            (Access(ca_bundle=str(index.ca_file)), Access(trusted_hosts=(f"127.0.0.1:{index.port}",)))
        ):
            store = Store(tmp_path / str(number))
            fetch(wanted(index, name), store=store, access=access, progress=Recorder())
            assert store.has(index.digest(name))
        with pytest.raises(FetchError, match="certificate") as caught:
            fetch(wanted(index, name), store=Store(tmp_path / "none"), access=Access(), progress=Recorder())
        assert "cert" in str(caught.value.hint)


def test_the_proxy_is_used(index: LocalIndex, store: Store) -> None:
    name = index.add_wheel("demo", "1.0")
    with CountingProxy(resolve={"index.invalid": ("127.0.0.1", index.port)}) as proxy:
        url = f"http://index.invalid/files/{name}"
        fetch(
            [Download(url, index.digest(name), name)],
            store=store,
            access=Access(proxy=proxy.url),
            progress=Recorder(),
        )
        assert proxy.urls == [url]


CHILD = """
import sys
from pathlib import Path
from imagesync.indexes.pypi.access import Access
from imagesync.store.download import Download
from imagesync.store.parallel_fetch import fetch, fetch_available
from imagesync.store.store import Store
from imagesync.core.progress import SilentProgress

class Talking(SilentProgress):
    def line(self, text, severity=None):
        print(text, flush=True)

root, *rest = sys.argv[1:]
downloads = [Download(*entry.split("|")) for entry in rest]
try:
    fetch(downloads, store=Store(Path(root)), access=Access(timeout=60), progress=Talking())
except KeyboardInterrupt:
    sys.exit(130)
"""


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        # Lazily: a store says that it is in use for as long as its process runs.
        subprocess.run(["umount", "--lazy", folder], check=True)


def start(index: LocalIndex, store: Store, *names: str) -> subprocess.Popen[str]:
    entries = [f"{index.file_url(name)}|{index.digest(name)}|{name}" for name in names]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store.root), *entries],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until *condition* holds; files of another process give no event to wait for."""
    wait_until(lambda: condition() or process.poll() is not None)
    assert process.poll() is None, "the process ended before"
