"""The content-addressed store in the user's cache folder.

::

    <root>/blobs/sha256/<2 hex>/<64 hex>    the artifacts, each under its digest
    <root>/derived/<64 hex>.json            what was made from something else, by the digest of its key
    <root>/partial/<process>.<random>       what is being written
    <root>/locks/<name>.lock                one process at a time does what the name says
    <root>/in-use/<process>.lock, .digests  what a running process has been handed
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.progress import Progress, SilentProgress
from imagesync.store.failures import storing
from imagesync.store.layout import blob_path
from imagesync.store.leases import Presence
from imagesync.store.writer import Incoming

if TYPE_CHECKING:
    from imagesync.store.prune import Usage

_CHUNK = 1024 * 1024
_NAME = re.compile(r"[^A-Za-z0-9._-]+")
# Whoever waits for a lock looks so often, in seconds; it isn't a wait for anything but another process.
_LOOK_AGAIN = 0.05


@dataclass(frozen=True)
class StoredFile:
    """A file in the store, verified when it was handed out.

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

    What it hands out is spared by every process that prunes, for as long as this object lives.

    Parameters
    ----------
    root
        The folder; made when something is written, readable by the user alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._presence = Presence(root)

    def path(self, digest: str) -> Path:
        """Return where the file of *digest* (``sha256:<hex>``) is or would be."""
        return blob_path(self.root, digest)

    def has(self, digest: str) -> bool:
        """Return whether a file of that digest is there, unverified."""
        return self.path(digest).is_file()

    def open(self, digest: str, *, filename: str, progress: Progress | None = None) -> StoredFile | None:
        """Return the verified file of *digest*, or ``None``; a corrupt one is removed, and a line says so.

        Raises
        ------
        StoreError
            The file is there and can't be read.
        """
        path = self.path(digest)
        found = hashlib.sha256()
        with storing(self.root):
            try:
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        found.update(chunk)
                    size = file.tell()
            except FileNotFoundError:
                return None
        if f"sha256:{found.hexdigest()}" != digest:
            (progress or SilentProgress()).line(
                f"{filename} was corrupt in the store, and was removed: {path}"
            )
            with storing(self.root):
                path.unlink(missing_ok=True)
            return None
        return self.hand_out(digest, filename, size)

    def hand_out(self, digest: str, filename: str, size: int) -> StoredFile:
        """Return a file that is known to be right, and remember that this process uses it."""
        path = self.path(digest)
        self._presence.note(digest)
        with storing(self.root):
            # The time of the last use, for pruning; nothing else looks at it.
            os.utime(path)
        return StoredFile(filename, path, digest, size)

    def begin(self) -> Incoming:
        """Return a file to write, of which nothing is seen before it is committed."""
        with storing(self.root):
            folder = self._folder("partial")
            return Incoming(self, folder / f"{self._presence.token}.{os.urandom(8).hex()}")

    def add(self, chunks: Iterable[bytes], *, filename: str, expected: str | None = None) -> StoredFile:
        """Store what *chunks* give and return it; see :meth:`Incoming.commit` for the errors."""
        with self.begin() as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.commit(filename=filename, expected=expected)

    def add_file(self, path: Path, *, filename: str | None = None, expected: str | None = None) -> StoredFile:
        """Store a copy of the file at *path*.

        A copy and no hard link: whoever changes the original in place must not change the store.
        """
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK), b"")
            return self.add(chunks, filename=filename or path.name, expected=expected)

    def remember(self, key: str, stored: StoredFile) -> None:
        """Note that *stored* is what *key* (any text that says what it was made from) gives."""
        with storing(self.root):
            self._folder("derived")
            temporary = self._folder("partial") / f"{self._presence.token}.{os.urandom(8).hex()}"
            try:
                temporary.write_text(
                    json.dumps({"digest": stored.digest, "filename": stored.filename}), "utf-8"
                )
                temporary.replace(self._derived(key))
            finally:
                temporary.unlink(missing_ok=True)

    def recall(self, key: str, *, progress: Progress | None = None) -> StoredFile | None:
        """Return the verified file that *key* gave before, or ``None``."""
        path = self._derived(key)
        with storing(self.root):
            try:
                found = json.loads(path.read_text("utf-8"))
                return self.open(found["digest"], filename=found["filename"], progress=progress)
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError):
                # Half a note is no note.
                path.unlink(missing_ok=True)
                return None

    def _derived(self, key: str) -> Path:
        return self.root / "derived" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _folder(self, name: str) -> Path:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self.root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @contextmanager
    def lock(
        self, name: str, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Iterator[None]:
        """Hold the lock *name*, which one process and one thread at a time can hold.

        Parameters
        ----------
        timeout
            In seconds; ``None`` waits as long as it takes.

        Raises
        ------
        TimeoutError
            Somebody else held it all the time.
        """
        from filelock import FileLock, Timeout

        with storing(self.root):
            path = self._folder("locks") / f"{_NAME.sub('-', name)}.lock"
            lock = FileLock(path, thread_local=False)
            started, told = time.monotonic(), False
            while True:
                try:
                    lock.acquire(timeout=_LOOK_AGAIN if not told else 1, poll_interval=_LOOK_AGAIN)
                    break
                except Timeout:
                    if timeout is not None and time.monotonic() - started >= timeout:
                        raise TimeoutError(f"{name} is held by another process") from None
                    if not told and progress is not None:
                        progress.line(f"Waiting for another imagesync process ({name}) ...")
                    told = True
        try:
            yield
        finally:
            lock.release()

    def usage(self) -> Usage:
        """Return what the artifacts take."""
        from imagesync.store.prune import usage

        return usage(self.root)

    def prune(self, *, older_than: float | None = None) -> Usage:
        """Remove what no running process uses, and return what was removed.

        Parameters
        ----------
        older_than
            Only what wasn't used for so many seconds; ``None`` removes everything.
        """
        from imagesync.store.prune import prune

        return prune(self.root, older_than=older_than)
