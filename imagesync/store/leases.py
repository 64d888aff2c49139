"""Leases: which files of the store a running process uses, as other processes see it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.store.layout import IN_USE, store_errors

if TYPE_CHECKING:
    from filelock import FileLock


class Lease:
    """The digests that this process uses, under a lock that the system releases when the process ends."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / IN_USE
        self._guard = threading.Lock()
        self._lock: FileLock | None = None
        self._token = ""
        self._process = 0
        self._digests: set[str] = set()

    @property
    def token(self) -> str:
        """Return this process's name in the store."""
        with self._guard:
            self._acquire()
            return self._token

    def add(self, digest: str) -> None:
        """Keep *digest* from being pruned for as long as this process runs."""
        with self._guard, store_errors(self._root):
            self._acquire()
            if digest not in self._digests:
                with (self._folder / f"{self._token}.digests").open("a", encoding="ascii") as file:
                    file.write(f"{digest}\n")
                self._digests.add(digest)

    def _acquire(self) -> None:
        # A fork shares its parent's lock, and must not share its name.
        if self._lock is not None and self._process == os.getpid():
            return
        with store_errors(self._root):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            token, lock = _new_lock(self._folder)
        self._token, self._process, self._lock = token, os.getpid(), lock
        self._digests = set()


def _new_lock(folder: Path) -> tuple[str, FileLock]:
    from filelock import FileLock, Timeout

    while True:
        token = f"{os.getpid()}-{os.urandom(6).hex()}"
        path = folder / f"{token}.lock"
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        if path.exists():
            return token, lock
        # A process that prunes took the new file for one that a dead process left.
        lock.release()


def read_leases(root: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each running process's name and the digests it uses; leases of dead processes are removed."""
    from filelock import FileLock, Timeout

    for path in sorted((root / IN_USE).glob("*.lock")):
        digests = path.with_suffix(".digests")
        try:
            with FileLock(path, timeout=0, thread_local=False):
                digests.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        except Timeout:
            used = digests.read_text("ascii").split() if digests.exists() else []
            yield path.stem, frozenset(used)
