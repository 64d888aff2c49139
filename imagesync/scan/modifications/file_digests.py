# Paths stay strings: there are tens of thousands of them.
"""The sha256 of installed files, remembered by their status."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imagesync.core.cache_file import read_cache, write_cache
from imagesync.core.digests import file_hexdigest
from imagesync.core.progress import Progress, slow_task
from imagesync.core.stat_cache import SIZE, Stat

_FORMAT = 1
_AT_ONCE = 200


class FileDigests:
    """The sha256 of files, of which those with an unchanged status aren't read."""

    def __init__(self, cached: Path | None) -> None:
        self._cached = cached
        known = None if cached is None else read_cache(cached, key=_FORMAT)
        self._known: dict[str, tuple[Stat, str]] = {
            path: (tuple(value), digest) for path, (value, digest) in (known or {}).items()
        }
        self._current: dict[str, tuple[Stat, str]] = {}

    def of(self, paths: Mapping[str, Stat], progress: Progress) -> Mapping[str, str]:
        """Return the digest of each of *paths*, in hexadecimal; empty if it can't be read."""
        for path, value in paths.items():
            if (known := self._known.get(path)) is not None and known[0] == value:
                self._current[path] = known
        fresh = [path for path in paths if path not in self._current]
        if fresh:
            from imagesync.core.worker_pool import WorkerPool

            parts = [fresh[start : start + _AT_ONCE] for start in range(0, len(fresh), _AT_ONCE)]
            total = sum(paths[path][SIZE] for path in fresh)
            with (
                slow_task(progress, "Comparing installed files", total=total, unit="bytes") as task,
                WorkerPool() as pool,  # reading and hashing need no lock of the interpreter
            ):
                for part, found in zip(parts, pool.map(_sha256_of_each, parts), strict=True):
                    for path, digest in zip(part, found, strict=True):
                        self._current[path] = (paths[path], digest)
                    task.advance(sum(paths[path][SIZE] for path in part))
        return {path: self._current[path][1] for path in paths}

    def save(self, *, settled_before: int) -> bool:
        """Remember the digests of files that can't change unnoticed; return True if these are all."""
        settled = {
            path: (value, digest)
            for path, (value, digest) in self._current.items()
            if value[2] < settled_before and value[3] < settled_before
        }
        if self._cached is not None and settled != self._known:
            write_cache(self._cached, settled, key=_FORMAT)
        return len(settled) == len(self._current)


def _sha256_of_each(paths: list[str]) -> list[str]:
    return [digest_of(path, "sha256") for path in paths]


def digest_of(path: str, algorithm: str) -> str:
    """Return the digest of a file, in hexadecimal; empty if it can't be read."""
    try:
        return file_hexdigest(path, algorithm)
    except OSError:
        return ""
