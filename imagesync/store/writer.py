"""Files on their way into the store."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from imagesync.errors import HashMismatch
from imagesync.store.failures import storing

if TYPE_CHECKING:
    from imagesync.store.store import Store, StoredFile


class Incoming:
    """A file on its way into the store; it is there when committed, and leaves nothing behind otherwise."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0
        with storing(store.root):
            self._file: IO[bytes] = path.open("wb")

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Append *chunk*."""
        with storing(self._store.root):
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget what was written."""
        with storing(self._store.root):
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def commit(self, *, filename: str, expected: str | None = None) -> StoredFile:
        """Put the file in its place, in one step.

        Raises
        ------
        HashMismatch
            The content isn't what *expected* (``sha256:<hex>``) says; nothing is kept.
        StoreError
            The disk is full, or the store isn't writable.
        """
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected is not None and digest != expected:
            self.discard()
            raise HashMismatch(
                f"{filename} isn't what it should be: its digest is {digest}, expected is {expected}",
                hint="Whoever serves it replaced the file, or something on the way did. Nothing was kept.",
            )
        target = self._store.path(digest)
        with storing(self._store.root):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
        return self._store.hand_out(digest, filename, self.size)

    def discard(self) -> None:
        """Remove the file, if it isn't in its place yet."""
        # Closing writes what is buffered, and a full disk refuses that too.
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)
