"""The content-addressed store of artifacts in the cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.files import HashedFile, make_way, open_entry, read_chunks
from imagesync.core.progress import Progress, SilentProgress
from imagesync.errors import HashMismatch
from imagesync.store.layout import (
    DERIVED,
    DERIVED_FORMAT,
    LOCKS,
    PARTIAL,
    READ_ONLY,
    blob_path,
    is_digest,
    store_errors,
)
from imagesync.store.prune import Lease

if TYPE_CHECKING:
    from imagesync.store.prune import Usage


class BlobWriter(HashedFile):
    """A new artifact of the store in *root*, hashed as it is written to *path*."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root = root
        super().__init__(path, lambda: store_errors(root))

    def commit(self, *, filename: str, expected: str | None) -> str:
        """Move the file to its place in one step, and return its digest.

        Raises
        ------
        HashMismatch
            The content's digest isn't *expected* (``sha256:<hex>``); nothing is kept.
        StoreError
            The disk is full, or the store isn't writable.
        """
        digest = self.digest
        if expected is not None and digest != expected:
            self.discard()
            raise HashMismatch(
                f"{filename} has the wrong digest: it is {digest}, expected is {expected}",
                hint="The server or a proxy has replaced the file. Nothing was kept.",
            )
        target = blob_path(self._root, digest)
        with self._errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            make_way(target)
            self._path.replace(target)
        return digest


_NAME = re.compile(r"[^A-Za-z0-9._-]+")
# Seconds between two attempts to get a lock.
_RETRY = 0.05


@dataclass(frozen=True)
class StoredFile:
    """A file in the store, verified when it was handed out, or else when it is read.

    Parameters
    ----------
    filename
        The name that it has outside the store, such as a wheel's.
    path
        Where its bytes are; never changed in place.
    digest
        ``sha256:<hex>``.
    size
        In bytes.
    """

    filename: str
    path: Path
    digest: str
    size: int


class Store:
    """Artifacts by digest, shared by all processes of a user.

    No process prunes what it hands out, for as long as this object lives.

    Parameters
    ----------
    root
        The cache folder; made when something is written, readable by the user alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lease = Lease(root)

    def path(self, digest: str) -> Path:
        """Return the path of the file of *digest* (``sha256:<hex>``), whether it exists or not."""
        return blob_path(self.root, digest)

    def has(self, digest: str) -> bool:
        """Return True if a file of that digest is there, unverified."""
        return self.path(digest).is_file()

    def open(self, digest: str, *, filename: str, progress: Progress | None = None) -> StoredFile | None:
        """Return the verified file of *digest*, or ``None``; a corrupt one is removed and reported.

        Raises
        ------
        StoreError
            The file is there and can't be read.
        """
        path = self.path(digest)
        found = hashlib.sha256()
        with store_errors(self.root):
            try:
                with open_entry(path) as file:
                    for chunk in read_chunks(file):
                        found.update(chunk)
                    size = file.tell()
            except FileNotFoundError:
                return None
        if f"sha256:{found.hexdigest()}" != digest:
            (progress or SilentProgress()).line(
                f"{filename} was corrupt in the store, and was removed: {path}"
            )
            with store_errors(self.root):
                path.unlink(missing_ok=True)
            return None
        return self.hand_out(digest, filename, size)

    def find(self, digest: str, *, filename: str, size: int) -> StoredFile | None:
        """Return the file of *digest* and *size*, or ``None``; whoever reads it has to verify it."""
        with store_errors(self.root):
            try:
                found = self.path(digest).lstat()
            except FileNotFoundError:
                return None
        is_there = stat.S_ISREG(found.st_mode) and found.st_size == size
        return self.hand_out(digest, filename, size) if is_there else None

    def hand_out(self, digest: str, filename: str, size: int) -> StoredFile:
        """Return a file that is there, and keep it while this process runs."""
        path = self.path(digest)
        self._lease.add(digest)
        # The time of the last use, which pruning goes by. Nobody prunes what can't be written to.
        with suppress(OSError):
            os.utime(path)
        return StoredFile(filename, path, digest, size)

    def begin(self) -> BlobWriter:
        """Return a writer for a new file; :meth:`commit` puts the file in its place."""
        with store_errors(self.root):
            return BlobWriter(self.root, self._partial())

    @contextmanager
    def partial_file(self) -> Iterator[Path]:
        """Give the path of a file under way: it goes with the block, or after a kill with another process."""
        with store_errors(self.root):
            path = self._partial()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def commit(self, writer: BlobWriter, *, filename: str, expected: str | None = None) -> StoredFile:
        """Return the file that was written; see :meth:`BlobWriter.commit` for the errors.

        Parameters
        ----------
        expected
            The digest that the content must have, ``sha256:<hex>``.
        """
        digest = writer.commit(filename=filename, expected=expected)
        return self.hand_out(digest, filename, writer.size)

    def add(self, chunks: Iterable[bytes], *, filename: str, expected: str | None = None) -> StoredFile:
        """Store the content of *chunks* and return it; see :meth:`commit` for the errors."""
        with self.begin() as writer:
            for chunk in chunks:
                writer.write(chunk)
            return self.commit(writer, filename=filename, expected=expected)

    def add_file(self, path: Path, *, filename: str | None = None, expected: str | None = None) -> StoredFile:
        """Store a copy of the file at *path*.

        A copy and no hard link: whoever changes the original in place must not change the store.
        """
        with path.open("rb") as file:
            return self.add(read_chunks(file), filename=filename or path.name, expected=expected)

    def remember(self, key: str, stored: StoredFile) -> None:
        """Remember that *stored* was made from *key*, a text that identifies its inputs."""
        entry = {"digest": stored.digest, "filename": stored.filename}
        write_cache(cache_path(self.root / DERIVED, key), entry, key=DERIVED_FORMAT)

    def recall(self, key: str, *, progress: Progress | None = None) -> StoredFile | None:
        """Return the verified file that was made from *key*, or ``None``."""
        entry = read_cache(cache_path(self.root / DERIVED, key), key=DERIVED_FORMAT)
        known = entry if isinstance(entry, dict) else {}
        digest, filename = known.get("digest"), known.get("filename")
        if not is_digest(digest) or not isinstance(filename, str):
            return None
        return self.open(digest, filename=filename, progress=progress)

    def _partial(self) -> Path:
        return self._folder(PARTIAL) / f"{self._lease.token}.{os.urandom(8).hex()}"

    def _folder(self, name: str) -> Path:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self.root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @contextmanager
    def lock(
        self, name: str, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Iterator[None]:
        """Hold the lock *name*, which one thread of one process can hold at a time.

        Parameters
        ----------
        timeout
            In seconds; ``None`` waits as long as it takes.

        Raises
        ------
        TimeoutError
            Another process held it all the time.
        """
        from filelock import FileLock, Timeout

        path = self._lock_file(name)
        if path is None:
            yield  # nobody else can change anything either
            return
        with store_errors(self.root):
            lock = FileLock(path, thread_local=False)
            started, reported = time.monotonic(), False
            while True:
                try:
                    lock.acquire(timeout=_RETRY if not reported else 1, poll_interval=_RETRY)
                    break
                except Timeout:
                    if timeout is not None and time.monotonic() - started >= timeout:
                        raise TimeoutError(f"{name} is held by another process") from None
                    if not reported and progress is not None:
                        progress.line(f"Waiting for another imagesync process ({name}) ...")
                    reported = True
        try:
            yield
        finally:
            # Who waits for the lock notices that its file is gone, and makes another.
            with suppress(OSError):
                path.unlink()
            lock.release()

    def _lock_file(self, name: str) -> Path | None:
        """Return the file of a lock; ``None`` in a cache folder that can only be read."""
        with store_errors(self.root):
            try:
                path = self._folder(LOCKS) / f"{_NAME.sub('-', name)}.lock"
                make_way(path)
                path.touch()
            except OSError as error:
                if error.errno in READ_ONLY:
                    return None
                raise
        return path

    def usage(self) -> Usage:
        """Return the number and size of the files in the cache folder."""
        from imagesync.store.prune import usage

        return usage(self.root)

    def prune(self, *, older_than: float | None = None) -> Usage:
        """Remove what no running process uses; see :func:`imagesync.store.prune.prune`."""
        from imagesync.store.prune import prune

        return prune(self.root, older_than=older_than)

    def prune_archives(self, *, older_than: float | None = None, with_own: bool = False) -> Usage:
        """Remove archives that aren't needed; see :func:`imagesync.store.prune.prune_archives`.

        *with_own* removes those that this process has used, too.
        """
        from imagesync.store.prune import prune_archives

        return prune_archives(self.root, older_than=older_than, own=self._lease.token if with_own else "")
