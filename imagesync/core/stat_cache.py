"""Digests of many files, with a cache so that unchanged files aren't read again."""

from __future__ import annotations

import errno
import hashlib
import marshal
import os
import stat
import time
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import WheelError

_FORMAT = 3
# A file that changes again within one tick of its file system's clock keeps its times. FAT's tick
# is two seconds, the longest there is; git calls such files "racily clean".
TICK = 2_000_000_000

Stat = tuple[int, int, int, int, int]
"""Mode, size, modification and change time in nanoseconds, inode: a tuple, because there are thousands."""
MODE, SIZE, MODIFIED = range(3)
stat_of = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
"""From an ``os.stat_result`` to a :data:`Stat`."""


def stats_of(folder: Path, paths: Iterable[str]) -> dict[str, Stat]:
    """Return the status of each of *paths* that exists, without following links.

    Parameters
    ----------
    folder
        The folder of the files.
    paths
        Relative to *folder*, with ``/``.

    Raises
    ------
    WheelError
        A folder on the way can't be searched.
    """
    base = os.fspath(folder) + "/"
    stats = {}
    for path in paths:
        try:
            stats[path] = stat_of(os.lstat(base + path))
        except (FileNotFoundError, NotADirectoryError):  # noqa: PERF203 - a call a file would cost more
            continue  # tracked or recorded, and deleted since
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                continue  # recorded, and can't exist
            raise _unreadable(folder, path, error) from error
    return stats


def digest_files(folder: Path, stats: Mapping[str, Stat], *, began: int, cache: Path | None = None) -> str:
    """Return one digest over files below *folder*: names, executable bits, bytes and links.

    Parameters
    ----------
    folder
        The folder of the files.
    stats
        The status of each file by path relative to *folder*, as from :func:`stats_of`.
    began
        A time before *stats* were taken, in nanoseconds since the epoch.
    cache
        The folder of the cache; ``None`` for no cache.

    Returns
    -------
    str
        ``sha256:<hex>``.

    Raises
    ------
    WheelError
        A file can't be read.
    """
    key = [_FORMAT, fingerprint(stats)]
    # A file of its own, so that an unchanged tree needs one line read.
    total = _cache_path(folder, cache, "digest")
    if total is not None and (known := read_cache(total, key=key)) is not None:
        return str(known)
    return digest_each(folder, stats, began=began, cache=cache)[0]


def digest_each(
    folder: Path, stats: Mapping[str, Stat], *, began: int, cache: Path | None = None
) -> tuple[str, dict[str, str]]:
    """Return the digest of :func:`digest_files`, and the sha256 of each file that it is made of.

    Parameters and exceptions are those of :func:`digest_files`.
    """
    cached = _cache_path(folder, cache, "")
    previous = _read(cached)
    files = {path: _entry(folder, path, value, previous) for path, value in stats.items()}
    content = hashlib.sha256()
    for path in sorted(files):
        kind, _, package_digest = files[path]
        content.update(os.fsencode(f"{kind}\0{path}\0{package_digest}\0"))
    digest = "sha256:" + content.hexdigest()
    complete = _write(cached, files, settled_before=began - TICK)
    total = _cache_path(folder, cache, "digest")
    if total is not None and complete:
        write_cache(total, digest, key=[_FORMAT, fingerprint(stats)])
    return digest, {path: sha256 for path, (_, _, sha256) in files.items()}


def file_digests(
    folder: Path, paths: Iterable[str], *, scope: str, cache: Path | None = None
) -> Mapping[str, str]:
    """Return the sha256, in hexadecimal, of each of *paths* that exists.

    Parameters
    ----------
    folder
        The folder of the files.
    paths
        Relative to *folder*, with ``/``.
    scope
        A name for the set of files in the cache, because several sets may share *folder*.
    cache
        The folder of the cache; ``None`` for no cache.

    Raises
    ------
    WheelError
        A file can't be read.
    """
    began = time.time_ns()
    stats = stats_of(folder, paths)
    cached = _cache_path(folder, cache, scope)
    previous = _read(cached)
    files = {path: _entry(folder, path, value, previous) for path, value in stats.items()}
    if files != previous:
        _write(cached, files, settled_before=began - TICK)
    return {path: content for path, (_, _, content) in files.items()}


Entry = tuple[str, Stat, str]


def fingerprint(stats: Mapping[str, Stat]) -> str:
    """Return a digest of *stats* that changes with any file, and with their order."""
    content = hashlib.sha256(os.fsencode("\0".join(stats)))
    # marshal is three times as fast as repr; its version 2 has no references between equal numbers.
    content.update(marshal.dumps(list(stats.values()), 2))
    return content.hexdigest()


def state_of(files: Iterable[str], *, settled_before: int | None = None) -> str:
    """Return a text that changes with any of *files*; empty if nothing may be remembered of them.

    Parameters
    ----------
    settled_before
        A time in nanoseconds since the epoch. A file that was changed later may change again and keep its
        times, so nothing is remembered. Unnecessary for files that are replaced as a whole.
    """
    try:
        stats = {file: stat_of(os.stat(file)) for file in files}  # noqa: PTH116 - there are thousands
    except OSError:
        return ""
    if settled_before is not None and any(status[MODIFIED] >= settled_before for status in stats.values()):
        return ""
    return fingerprint(stats)


def _entry(folder: Path, path: str, value: Stat, previous: Mapping[str, Entry]) -> Entry:
    if (known := previous.get(path)) and known[1] == value:
        return known
    mode = value[0]
    where = f"{os.fspath(folder)}/{path}"
    try:
        if stat.S_ISLNK(mode):
            return "link", value, hashlib.sha256(os.fsencode(Path(where).readlink())).hexdigest()
        if not stat.S_ISREG(mode):
            return "other", value, ""  # a socket or a pipe
        with open(where, "rb") as stream:  # noqa: PTH123 - Path.open costs as much as the file's read
            content = hashlib.sha256(stream.read()).hexdigest()
    except OSError as error:
        raise _unreadable(folder, path, error) from error
    return "executable" if mode & stat.S_IXUSR else "file", value, content


def _unreadable(folder: Path, path: str, error: OSError) -> WheelError:
    return WheelError(
        f"The source file {folder / path} can't be read: {error.strerror}.",
        hint="Make it readable for yourself, or remove it.",
    )


def _cache_path(folder: Path, cache: Path | None, scope: str) -> Path | None:
    return None if cache is None else cache_path(cache, str(folder.absolute()), scope)


def _read(cached: Path | None) -> dict[str, Entry]:
    known = None if cached is None else read_cache(cached, key=_FORMAT)
    return {path: (kind, tuple(value), digest) for path, (kind, value, digest) in (known or {}).items()}


def _write(cached: Path | None, files: Mapping[str, Entry], *, settled_before: int) -> bool:
    """Write the entries of files that can't change unnoticed, and return True if these are all *files*."""
    settled = {path: entry for path, entry in files.items() if max(entry[1][2], entry[1][3]) < settled_before}
    if cached is not None:
        write_cache(cached, settled, key=_FORMAT)
    return len(settled) == len(files)
