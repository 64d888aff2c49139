"""The size of the cache folder, and pruning: what no running process uses may be removed."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagesync.core.cache_file import read_cache
from imagesync.store.layout import (
    BLOBS,
    CACHES,
    DERIVED,
    DERIVED_FORMAT,
    IN_USE,
    LOCKS,
    LOGS,
    PACKAGES,
    PACKAGES_FORMAT,
    PARTIAL,
    READ_ONLY,
    blob_path,
    is_digest,
    store_errors,
)

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
            if self._lock is not None and digest not in self._digests:
                with (self._folder / f"{self._token}.digests").open("a", encoding="ascii") as file:
                    file.write(f"{digest}\n")
                self._digests.add(digest)

    def _acquire(self) -> None:
        # A fork shares its parent's lock, and must not share its name.
        if self._lock is not None and self._process == os.getpid():
            return
        with store_errors(self._root):
            try:
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._folder.mkdir(mode=0o700, exist_ok=True)
                token, lock = _new_lock(self._folder)
            except OSError as error:
                if error.errno in READ_ONLY:
                    return  # nobody can prune it
                raise
            _clear(self._root)
        self._token, self._process, self._lock = token, os.getpid(), lock
        self._digests = set()


def _clear(root: Path) -> None:
    """Remove what processes that were killed have left: their leases, half-written files, and locks."""
    if ended := {path.stem for path in (root / IN_USE).glob("*.lock")} - set(dict(read_leases(root))):
        _remove(file for file in _files(root / PARTIAL) if file.path.name.partition(".")[0] in ended)
        _remove_locks(root)


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
        # A pruning process took the new file for a leftover of a dead process.
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


@dataclass(frozen=True)
class Total:
    """A number of files, and their size in bytes."""

    files: int
    size: int


@dataclass(frozen=True)
class Usage:
    """Files in the cache folder, or files that were removed from it.

    Parameters
    ----------
    artifacts
        Files that were fetched, built or compiled.
    caches
        Answers of indexes and channels, and what is known of unchanged files.
    logs
        Logs of builds.
    """

    root: Path
    artifacts: Total
    caches: Total
    logs: Total

    @property
    def size(self) -> int:
        """The size of all files, in bytes."""
        return self.artifacts.size + self.caches.size + self.logs.size

    def to_dict(self) -> dict[str, object]:
        """Return the usage as documented JSON (``docs/json.md``)."""
        return {
            "root": str(self.root),
            **asdict(self.artifacts),
            "caches": asdict(self.caches),
            "logs": asdict(self.logs),
        }


def usage(root: Path) -> Usage:
    """Return the number and size of the files in the cache folder *root*."""
    with store_errors(root):
        return Usage(root, _total(_blobs(root)), _total(_caches(root)), _total(_logs(root)))


def prune(root: Path, *, older_than: float | None = None) -> Usage:
    """Remove files from the cache folder *root*, and return their number and size.

    Artifacts that a running process uses stay.

    Parameters
    ----------
    older_than
        Remove only files that weren't used for so many seconds; ``None`` removes everything.
    """
    unused_since = None if older_than is None else time.time() - older_than

    def is_unused(file: _File) -> bool:
        return unused_since is None or file.used <= unused_since

    with store_errors(root):
        leases = dict(read_leases(root))
        used = frozenset().union(*leases.values()) if leases else frozenset[str]()
        blobs = [file for file in _blobs(root) if f"sha256:{file.path.name}" not in used and is_unused(file)]
        # Written by a process that was killed.
        partial = [file for file in _files(root / PARTIAL) if file.path.name.partition(".")[0] not in leases]
        removed = Usage(
            root,
            artifacts=_remove([*blobs, *partial]),
            caches=_remove(filter(is_unused, _caches(root))),
            logs=_remove(filter(is_unused, _logs(root))),
        )
        _remove(_orphaned(root))
        _remove_locks(root)
    return removed


def prune_archives(root: Path, *, older_than: float | None = None, own: str = "") -> Usage:
    """Remove the archives of packages whose parts of layers are in the cache folder *root*, and return them.

    A build without an engine takes the parts; what else needs an archive fetches it again.

    Parameters
    ----------
    older_than
        As for :func:`prune`.
    own
        The name of a process whose use of them doesn't count.
    """
    unused_since = None if older_than is None else time.time() - older_than
    with store_errors(root):
        used = frozenset[str]().union(*(found for name, found in read_leases(root) if name != own))
        paths = {blob_path(root, digest) for digest in _superfluous(root) - used}
        found = [file for path in sorted(paths) for file in _file(path)]
        removed = _remove(file for file in found if unused_since is None or file.used <= unused_since)
    return Usage(root, removed, Total(0, 0), Total(0, 0))


def _superfluous(root: Path) -> set[str]:
    """Return the digests of archives that aren't needed where their packages' parts are here."""
    found: set[str] = set()
    for file in _files(root / PACKAGES):
        entry = read_cache(file.path, key=PACKAGES_FORMAT, is_use=False)
        match entry:
            case {"part": part, "archives": [*archives]} if is_digest(part):
                if blob_path(root, part).is_file():
                    found.update(filter(is_digest, archives))
    return found


class _File(NamedTuple):
    path: Path
    size: int
    used: float


def _files(folder: Path) -> Iterator[_File]:
    return (file for path in sorted(folder.rglob("*")) for file in _file(path))


def _file(path: Path) -> Iterator[_File]:
    """Yield the regular file *path*, if it is one."""
    with suppress(FileNotFoundError):  # replaced by a running process
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            yield _File(path, status.st_size, status.st_mtime)


def _blobs(root: Path) -> Iterator[_File]:
    return _files(root / BLOBS)


def _caches(root: Path) -> Iterator[_File]:
    return (file for folder in CACHES for file in _files(root / folder))


def _logs(root: Path) -> Iterator[_File]:
    return _files(root / LOGS)


def _total(files: Iterable[_File]) -> Total:
    sizes = [file.size for file in files]
    return Total(len(sizes), sum(sizes))


def _remove(files: Iterable[_File]) -> Total:
    removed = list(files)
    for file in removed:
        file.path.unlink(missing_ok=True)
    return _total(removed)


def _orphaned(root: Path) -> Iterator[_File]:
    """Yield the entries about artifacts that aren't there any more."""
    for file in _files(root / DERIVED):
        entry = read_cache(file.path, key=DERIVED_FORMAT, is_use=False)
        digest = entry.get("digest") if isinstance(entry, dict) else None
        if not is_digest(digest) or not blob_path(root, digest).is_file():
            yield file


def _remove_locks(root: Path) -> None:
    from filelock import FileLock, Timeout

    for path, _, _ in _files(root / LOCKS):
        # A process that waits for the lock notices that its file is gone, and makes another.
        with suppress(Timeout), FileLock(path, timeout=0, thread_local=False):
            path.unlink(missing_ok=True)
