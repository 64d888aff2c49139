"""Fetch artifacts into the store: in parallel, each once, hashed while they stream."""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from imagesync.core.progress import Progress, Task
from imagesync.errors import ArtifactGone
from imagesync.indexes.pypi.access import Access
from imagesync.store.download import Cancelled, Connection, Download, Downloader
from imagesync.store.store import Store, StoredFile

_WORKERS = 8
# Seconds that all cancelled downloads together get to end; their sockets are shut down already.
_GRACE = 1.0
# Seconds between two wake-ups of the main thread, so that Ctrl-C works on every platform.
_POLL = 0.2


def fetch(
    downloads: Sequence[Download], *, store: Store, access: Access, progress: Progress
) -> tuple[StoredFile, ...]:
    """Return the files of *downloads*, in their order, from the store or else from their URLs.

    A file in the store is never fetched again. Two processes that want the same file fetch it once.
    The first failure stops all other downloads.

    Raises
    ------
    ArtifactGone
        An index answers that a file isn't there.
    HashMismatch
        A file hasn't the expected digest; nothing of it is kept.
    FetchError
        A file can't be fetched, after several attempts where another attempt may help.
    StoreError
        The store can't be written to.
    """
    found = _fetch(
        downloads, store=store, access=access, progress=progress, stop_at_gone=True, on_arrival=_ignore
    )
    return tuple(file for file in found if isinstance(file, StoredFile))


def _ignore(file: StoredFile) -> None:
    del file


def fetch_available(
    downloads: Sequence[Download],
    *,
    store: Store,
    access: Access,
    progress: Progress,
    on_arrival: Callable[[StoredFile], object] = _ignore,
) -> tuple[StoredFile | ArtifactGone, ...]:
    """Return the files as :func:`fetch` does, and the index's answer in place of each missing one.

    *on_arrival* is called with each file as soon as it is there, while others still arrive.
    """
    return _fetch(
        downloads, store=store, access=access, progress=progress, stop_at_gone=False, on_arrival=on_arrival
    )


def _fetch(
    downloads: Sequence[Download],
    *,
    store: Store,
    access: Access,
    progress: Progress,
    stop_at_gone: bool,
    on_arrival: Callable[[StoredFile], object],
) -> tuple[StoredFile | ArtifactGone, ...]:
    unique = {download.digest: download for download in downloads}
    missing = [download for download in unique.values() if not store.has(download.digest)]
    total = sum(download.size or 0 for download in missing)
    with progress.task("Fetching", total=total, unit="bytes") as task, warnings.catch_warnings():
        if access.trusted_hosts:
            _accept_trusted_hosts()
        work = _Work(list(unique.values()), Downloader(store, access, task, progress, counted=missing), task)
        found = work.run(stop_at_gone=stop_at_gone, on_arrival=on_arrival)
    return tuple(_named(found[download.digest], download.filename) for download in downloads)


def _named(found: StoredFile | ArtifactGone, filename: str) -> StoredFile | ArtifactGone:
    return found if isinstance(found, ArtifactGone) else replace(found, filename=filename)


def _accept_trusted_hosts() -> None:
    from urllib3.exceptions import InsecureRequestWarning

    # The user configured it: pip is silent about it, too.
    warnings.simplefilter("ignore", InsecureRequestWarning)


class _Work:
    """Downloads on several threads, which all stop when one fails or the user interrupts."""

    def __init__(self, downloads: Sequence[Download], downloader: Downloader, task: Task) -> None:
        self._queue: queue.SimpleQueue[Download] = queue.SimpleQueue()
        # The largest first, so that none is left over at the end when the others are done.
        for download in sorted(downloads, key=lambda download: -(download.size or 0)):
            self._queue.put(download)
        self._downloader = downloader
        self._task = task
        self._remaining = len(downloads)
        self._outcomes: queue.SimpleQueue[tuple[Download, StoredFile | BaseException]] = queue.SimpleQueue()
        # Daemons, so that a thread that waits for a dead host doesn't keep the process alive.
        self._threads = [
            threading.Thread(target=self._serve, daemon=True) for _ in range(min(_WORKERS, len(downloads)))
        ]

    def run(
        self, *, stop_at_gone: bool, on_arrival: Callable[[StoredFile], object]
    ) -> dict[str, StoredFile | ArtifactGone]:
        found: dict[str, StoredFile | ArtifactGone] = {}
        try:
            for thread in self._threads:
                thread.start()
            while self._remaining:
                try:
                    download, outcome = self._outcomes.get(timeout=_POLL)
                except queue.Empty:
                    continue
                self._remaining -= 1
                if isinstance(outcome, ArtifactGone) and not stop_at_gone:
                    self._task.grow(-(download.size or 0))
                elif isinstance(outcome, BaseException):
                    raise outcome
                else:
                    on_arrival(replace(outcome, filename=download.filename))
                found[download.digest] = outcome
        finally:
            self._downloader.cancel()
            end = time.monotonic() + _GRACE
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join(max(0.0, end - time.monotonic()))
            self._downloader.discard_all()
        return found

    def _serve(self) -> None:
        with closing(Connection(self._downloader.access)) as connection:
            while not self._downloader.cancelled:
                try:
                    download = self._queue.get_nowait()
                except queue.Empty:
                    return
                try:
                    outcome: StoredFile | BaseException = self._downloader.obtain(download, connection)
                except Cancelled:
                    return
                except BaseException as error:
                    # Raised again in the main thread.
                    outcome = error
                self._outcomes.put((download, outcome))
