"""Fetching artifacts into the store: in parallel, each once, checked while it streams."""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from imagesync.core.progress import Progress, Task
from imagesync.errors import ArtifactGone
from imagesync.indexes.pypi.access import Access
from imagesync.store.download import Cancelled, Connection, Downloader
from imagesync.store.store import Store, StoredFile

_WORKERS = 8
# How long cancelled downloads get to notice, in seconds; their sockets are shut down meanwhile.
_GRACE = 1.0
# How often the main thread looks up, so that Ctrl-C is heard on every platform.
_LISTEN = 0.2


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Parameters
    ----------
    url
        ``https://``, ``http://`` or ``file://``, without credentials.
    digest
        ``sha256:<hex>``.
    size
        In bytes; ``None`` where it isn't known.
    """

    url: str
    digest: str
    filename: str
    size: int | None = None


def fetch(
    downloads: Sequence[Download], *, store: Store, access: Access, progress: Progress
) -> tuple[StoredFile, ...]:
    """Return the files of *downloads*, in their order, from the store or else from where they are.

    What is in the store is never fetched anew. Two processes that want the same file fetch it once.
    The first failure stops all other downloads.

    Raises
    ------
    ArtifactGone
        An index answers that a file isn't there.
    HashMismatch
        A file isn't what its digest says; nothing of it is kept.
    FetchError
        A file can't be had, after several attempts where another attempt may help.
    StoreError
        The store can't be written to.
    """
    found = _fetch(downloads, store=store, access=access, progress=progress, stop_at_gone=True)
    return tuple(file for file in found if isinstance(file, StoredFile))


def fetch_available(
    downloads: Sequence[Download], *, store: Store, access: Access, progress: Progress
) -> tuple[StoredFile | ArtifactGone, ...]:
    """Return the same as :func:`fetch`, and in the place of each file that isn't there what was answered."""
    return _fetch(downloads, store=store, access=access, progress=progress, stop_at_gone=False)


def _fetch(
    downloads: Sequence[Download], *, store: Store, access: Access, progress: Progress, stop_at_gone: bool
) -> tuple[StoredFile | ArtifactGone, ...]:
    unique = {download.digest: download for download in downloads}
    missing = [download for download in unique.values() if not store.has(download.digest)]
    total = sum(download.size or 0 for download in missing)
    with progress.task("Fetching", total=total, unit="bytes") as task, warnings.catch_warnings():
        if access.trusted_hosts:
            _accept_trusted_hosts()
        work = _Work(list(unique.values()), Downloader(store, access, task, progress, counted=missing), task)
        found = work.run(stop_at_gone=stop_at_gone)
    return tuple(_named(found[download.digest], download.filename) for download in downloads)


def _named(found: StoredFile | ArtifactGone, filename: str) -> StoredFile | ArtifactGone:
    return found if isinstance(found, ArtifactGone) else replace(found, filename=filename)


def _accept_trusted_hosts() -> None:
    from urllib3.exceptions import InsecureRequestWarning

    # The user said so: pip keeps silent as well.
    warnings.simplefilter("ignore", InsecureRequestWarning)


class _Work:
    """Downloads shared out among threads that all stop when one fails or the user interrupts."""

    def __init__(self, downloads: Sequence[Download], downloader: Downloader, task: Task) -> None:
        self._queue: queue.SimpleQueue[Download] = queue.SimpleQueue()
        # The largest first, so that none is left over at the end when the others are done.
        for download in sorted(downloads, key=lambda download: -(download.size or 0)):
            self._queue.put(download)
        self._downloader = downloader
        self._task = task
        self._remaining = len(downloads)
        self._outcomes: queue.SimpleQueue[tuple[Download, StoredFile | BaseException]] = queue.SimpleQueue()
        # Daemons, because a thread that waits for a dead host must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._serve, daemon=True) for _ in range(min(_WORKERS, len(downloads)))
        ]

    def run(self, *, stop_at_gone: bool) -> dict[str, StoredFile | ArtifactGone]:
        found: dict[str, StoredFile | ArtifactGone] = {}
        try:
            for thread in self._threads:
                thread.start()
            while self._remaining:
                try:
                    download, outcome = self._outcomes.get(timeout=_LISTEN)
                except queue.Empty:
                    continue
                self._remaining -= 1
                if isinstance(outcome, ArtifactGone) and not stop_at_gone:
                    self._task.grow(-(download.size or 0))
                elif isinstance(outcome, BaseException):
                    raise outcome
                found[download.digest] = outcome
        finally:
            self._downloader.cancel()
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join(_GRACE)
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
