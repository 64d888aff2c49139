"""That a process runs and uses files of the store, as other processes see it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.store.failures import storing

if TYPE_CHECKING:
    from filelock import FileLock


class Presence:
    """Notes what this process was handed, under a lock that the system releases when the process ends."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "in-use"
        self._guard = threading.Lock()
        self._held: FileLock | None = None
        self._token = ""
        self._process = 0
        self._noted: set[str] = set()

    @property
    def token(self) -> str:
        """Return this process's name in the store, and let it be known that it runs."""
        with self._guard:
            self._enter()
            return self._token

    def note(self, digest: str) -> None:
        """Write down that *digest* is in use for as long as this process runs."""
        with self._guard, storing(self._root):
            self._enter()
            if digest not in self._noted:
                with (self._folder / f"{self._token}.digests").open("a", encoding="ascii") as file:
                    file.write(f"{digest}\n")
                self._noted.add(digest)

    def _enter(self) -> None:
        # A fork shares its parent's lock, and must not share its name.
        if self._held is not None and self._process == os.getpid():
            return
        with storing(self._root):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            token, held = _announce(self._folder)
        self._token, self._process, self._held = token, os.getpid(), held
        self._noted = set()


def _announce(folder: Path) -> tuple[str, FileLock]:
    from filelock import FileLock, Timeout

    while True:
        token = f"{os.getpid()}-{os.urandom(6).hex()}"
        path = folder / f"{token}.lock"
        held = FileLock(path, thread_local=False)
        try:
            held.acquire(timeout=0)
        except Timeout:
            continue
        if path.exists():
            return token, held
        # Somebody who prunes took the new file for one that a dead process left.
        held.release()


def living(root: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each running process's name and the digests it uses; what dead ones left is removed."""
    from filelock import FileLock, Timeout

    for path in sorted((root / "in-use").glob("*.lock")):
        digests = path.with_suffix(".digests")
        try:
            with FileLock(path, timeout=0, thread_local=False):
                digests.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        except Timeout:
            used = digests.read_text("ascii").split() if digests.exists() else []
            yield path.stem, frozenset(used)
