"""One download: from the store, from a file, or over HTTP with several attempts."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesync.core.credentials import redact
from imagesync.core.files import read_chunks
from imagesync.core.limits import SILENCES, TooMuch, arriving, bounded, is_silence, retry_after
from imagesync.core.progress import Progress, Task
from imagesync.errors import ArtifactGone, FetchError
from imagesync.indexes.pypi.access import Access, get, open_session
from imagesync.indexes.pypi.index_problems import (
    REFUSALS,
    certificate_hint,
    refusal,
    refusal_hint,
    untrusted,
)
from imagesync.store.source import local_path
from imagesync.store.store import BlobWriter, Store, StoredFile

if TYPE_CHECKING:
    import requests

_ATTEMPTS = 5
# Seconds before the second attempt; doubled for each further one.
_BACK_OFF = 0.3
# Seconds between two attempts to get a lock that another process holds.
_RETRY = 0.05
_MISSING = frozenset({404, 410})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


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


class Cancelled(Exception):
    """The download was stopped: another one failed, or the user interrupted."""


class _Retry(Exception):
    """A failure that another attempt may avoid."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class Connection:
    """One thread's HTTP session, opened at its first request."""

    def __init__(self, access: Access) -> None:
        self._access = access

    @cached_property
    def session(self) -> requests.Session:
        """Return the HTTP session."""
        return open_session(self._access)

    def close(self) -> None:
        """Close the session, if it was needed."""
        if "session" in self.__dict__:
            self.session.close()


class Downloader:
    """Fetches files on several threads, and can stop them all."""

    def __init__(
        self, store: Store, access: Access, task: Task, progress: Progress, *, counted: Iterable[Download]
    ) -> None:
        self.access = access
        self._store = store
        self._counted = frozenset(download.digest for download in counted)
        self._task = task
        self._progress = progress
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._responses: set[requests.Response] = set()
        self._writers: set[BlobWriter] = set()
        # Hosts that don't respond, skipped for files that have other locations.
        self._silent: set[str] = set()

    @property
    def cancelled(self) -> bool:
        """Whether all downloads have to stop."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop all downloads; those that wait for bytes end at once."""
        self._stop.set()
        with self._guard:
            for response in self._responses:
                # A response that has ended has nothing to shut down.
                with suppress(ValueError, OSError, RuntimeError):
                    # urllib3's: ends a read in another thread.
                    response.raw.shutdown()

    def discard_all(self) -> None:
        """Remove files that are half written."""
        with self._guard:
            for writer in self._writers:
                writer.discard()

    def obtain(self, download: Download, connection: Connection) -> StoredFile:
        """Return the file, from the store if it's there; see :func:`.parallel_fetch.fetch`."""
        counted = download.digest in self._counted
        if (stored := self._from_store(download)) is not None:
            if counted:
                # Another process has fetched it since.
                self._advance(download.size or 0)
            return stored
        if not counted:
            # The file in the store was corrupt.
            with self._guard:
                self._task.grow(download.size or 0)
        with self._locked(download):
            if (stored := self._from_store(download)) is not None:
                self._advance(download.size or 0)
                return stored
            return self._from_places(download, connection)

    def _from_places(self, download: Download, connection: Connection) -> StoredFile:
        """Return the file from the first of its places that has it."""
        failures: list[FetchError] = []
        places = self.access.places(download.url)
        for number, url in enumerate(places):
            if urlsplit(url).netloc in self._silent and number < len(places) - 1:
                continue
            try:
                return self._from_place(replace(download, url=url), connection)
            except FetchError as error:
                failures.append(error)
        # A mirror's refusal explains more than a missing file at the last location.
        raise next((error for error in failures if not isinstance(error, ArtifactGone)), failures[-1])

    def _from_place(self, download: Download, connection: Connection) -> StoredFile:
        with self._writing() as writer:
            try:
                if (path := local_path(download.url)) is not None:
                    self._copy(path, writer)
                else:
                    self._with_attempts(download, connection, writer)
                if download.size is None:
                    with self._guard:
                        self._task.grow(writer.size)
                return self._store.commit(writer, filename=download.filename, expected=download.digest)
            except FetchError:
                self._advance(-writer.size)
                raise

    def _copy(self, path: Path, writer: BlobWriter) -> None:
        try:
            with path.open("rb") as file:
                for chunk in read_chunks(file):
                    self._receive(writer, chunk)
        except OSError as error:
            wording = self.access.wording
            raise FetchError(
                f"{path} can't be read: {error.strerror}",
                hint=f"Is the folder of your {wording.place} still there ({wording.settings})?",
            ) from error

    def _from_store(self, download: Download) -> StoredFile | None:
        return self._store.open(download.digest, filename=download.filename, progress=self._progress)

    @contextmanager
    def _locked(self, download: Download) -> Iterator[None]:
        # In short turns, so that a cancellation is noticed.
        name = f"fetch-{download.digest.removeprefix('sha256:')}"
        reported = False
        while True:
            self._check()
            lock = self._store.lock(name, timeout=0)
            try:
                lock.__enter__()
            except TimeoutError:
                if not reported:
                    self._progress.line(f"Waiting for another process that fetches {download.filename} ...")
                reported = True
                self._stop.wait(_RETRY)
                continue
            break
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    @contextmanager
    def _writing(self) -> Iterator[BlobWriter]:
        with self._store.begin() as writer:
            with self._guard:
                self._writers.add(writer)
            try:
                yield writer
            finally:
                with self._guard:
                    self._writers.discard(writer)

    def _receive(self, writer: BlobWriter, chunk: bytes) -> None:
        self._check()
        writer.write(chunk)
        self._advance(len(chunk))

    def _advance(self, amount: int) -> None:
        with self._guard:
            self._task.advance(amount)

    def _check(self) -> None:
        if self.cancelled:
            raise Cancelled

    def _with_attempts(self, download: Download, connection: Connection, writer: BlobWriter) -> None:
        wait, silences = _BACK_OFF, 0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._attempt(download, connection.session, writer)
            except _Retry as retry:  # noqa: PERF203 (an attempt is a request)
                self._check()
                silences += is_silence(retry)
                if attempt == _ATTEMPTS or silences == SILENCES:
                    self._silent.add(urlsplit(download.url).netloc)
                    raise FetchError(
                        f"{download.filename} can't be fetched from {download.url}, "
                        f"after {attempt} attempts: {retry.reason}",
                        hint=f"Check network, proxy and {self.access.wording.place}, then try again.",
                    ) from retry
                self._stop.wait(wait if retry.wait is None else retry.wait)
                wait *= 2
            else:
                return

    def _attempt(self, download: Download, session: requests.Session, writer: BlobWriter) -> None:
        import requests
        from urllib3.exceptions import HTTPError

        self._check()
        headers = {"Range": f"bytes={writer.size}-"} if writer.size else None
        try:
            with get(session, download.url, access=self.access, headers=headers) as response:
                with self._guard:
                    self._responses.add(response)
                try:
                    self._check()
                    _raise_for_status(response, download, self.access)
                    self._receive_body(response, writer, most=download.size)
                finally:
                    with self._guard:
                        self._responses.discard(response)
        except requests.exceptions.SSLError as error:
            host = urlsplit(download.url).netloc
            raise FetchError(
                f"{download.filename} can't be fetched: {host} {untrusted(error)}.",
                hint=certificate_hint(self.access),
            ) from error
        except requests.exceptions.ProxyError as error:
            raise FetchError(
                f"{download.url}: {_innermost(error)}",
                hint=f"Check the proxy in {self.access.wording.settings}, HTTPS_PROXY and NO_PROXY.",
            ) from error
        except TooMuch as error:
            raise FetchError(
                f"{download.filename}: {download.url} sends {error} by its entry in the lock or the index.",
                hint="The server or a proxy has replaced the file. Nothing was kept.",
            ) from error
        except (requests.exceptions.RequestException, HTTPError, ConnectionError, TimeoutError) as error:
            raise _Retry(_innermost(error)) from error

    def _receive_body(self, response: requests.Response, writer: BlobWriter, *, most: int | None) -> None:
        resumed = response.status_code == 206 and _starts_at(response, writer.size)
        if writer.size and not resumed:
            self._advance(-writer.size)
            writer.restart()
            if response.status_code == 206:
                raise _Retry("the server answered with another range of the file than requested")
        left = None if most is None else most - writer.size
        for chunk in bounded(arriving(response), most=left):
            self._receive(writer, chunk)


def _starts_at(response: requests.Response, offset: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _raise_for_status(response: requests.Response, download: Download, access: Access) -> None:
    status = response.status_code
    place = access.wording.place
    if status in _TRANSIENT:
        raise _Retry(f"the server answers {status}", wait=retry_after(response))
    if status == 416:
        raise _Retry("the server answers 416")
    if status in REFUSALS:
        raise FetchError(
            f"{download.filename} can't be fetched: {urlsplit(download.url).netloc} {refusal(response)}.",
            hint=refusal_hint(download.url, access),
        )
    if status in _MISSING:
        raise ArtifactGone(
            f"{download.filename}: {download.url} answers {status}",
            hint=f"The {place} doesn't have the file any more, or moved it: "
            "lock again with `imagesync lock`.",
        )
    if status >= 400:
        raise FetchError(
            f"{download.filename}: {download.url} answers {status}",
            hint=f"Ask whoever runs the {place} or the proxy, or lock again with `imagesync lock`.",
        )


def _innermost(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
        reason = getattr(error, "reason", reason)
    return redact(str(reason or error))
