"""Writing an artifact into the store: nothing of it is seen before it is whole."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from imagesync.errors import HashMismatch
from imagesync.store.layout import blob_path, store_errors


class BlobWriter:
    """A new artifact of the store in *root*, hashed as it is written to *path*.

    As a context manager it leaves nothing behind unless it was committed.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self._root = root
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0
        with store_errors(root):
            self._file: IO[bytes] = path.open("wb")

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Append *chunk*."""
        with store_errors(self._root):
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Drop what was written, and begin again."""
        with store_errors(self._root):
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def commit(self, *, filename: str, expected: str | None) -> str:
        """Move the file to its place in one step, and return its digest.

        Raises
        ------
        HashMismatch
            The content's digest isn't *expected* (``sha256:<hex>``); nothing is kept.
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
        target = blob_path(self._root, digest)
        with store_errors(self._root):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
        return digest

    def discard(self) -> None:
        """Remove the file, unless it was committed."""
        # Closing writes what is buffered, and a full disk refuses that too.
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)
