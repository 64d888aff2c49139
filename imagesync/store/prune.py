"""What the store holds, and what of it can go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from imagesync.store.failures import storing
from imagesync.store.layout import blob_path
from imagesync.store.leases import living


@dataclass(frozen=True)
class Usage:
    """So many files, and how much they take.

    Parameters
    ----------
    size
        In bytes.
    """

    root: Path
    files: int
    size: int

    def to_dict(self) -> dict[str, str | int]:
        """Return the usage as documented JSON (``docs/json.md``)."""
        return {**asdict(self), "root": str(self.root)}


def usage(root: Path) -> Usage:
    """Return what the artifacts of the store in *root* take."""
    with storing(root):
        sizes = [path.stat().st_size for path in _blobs(root)]
    return Usage(root, len(sizes), sum(sizes))


def prune(root: Path, *, older_than: float | None = None) -> Usage:
    """Remove artifacts and return what was removed; what a running process uses stays.

    Parameters
    ----------
    older_than
        Only what wasn't used for so many seconds; ``None`` removes everything.
    """
    limit = time.time() - older_than if older_than is not None else None
    files = size = 0
    with storing(root):
        processes = dict(living(root))
        used = frozenset().union(*processes.values()) if processes else frozenset[str]()
        for path in (*_blobs(root), *_abandoned(root, frozenset(processes))):
            about = path.stat()
            partial = path.parent.name == "partial"
            if not partial and (f"sha256:{path.name}" in used or (limit and about.st_mtime > limit)):
                continue
            path.unlink(missing_ok=True)
            files, size = files + 1, size + about.st_size
        _forget_derived(root)
        _forget_answers(root, limit)
    return Usage(root, files, size)


def _forget_answers(root: Path, limit: float | None) -> None:
    # What indexes and channels said: asked for again when it is needed.
    for path in (*(root / "answers").glob("*"), *(root / "repodata").rglob("*")):
        if path.is_dir():
            continue
        if limit is None or path.stat().st_mtime <= limit:
            path.unlink(missing_ok=True)


def _blobs(root: Path) -> Iterator[Path]:
    return (path for path in sorted((root / "blobs" / "sha256").glob("*/*")) if path.is_file())


def _abandoned(root: Path, processes: frozenset[str]) -> Iterator[Path]:
    # What a process that was killed had begun to write.
    return (
        path for path in sorted((root / "partial").glob("*")) if path.name.partition(".")[0] not in processes
    )


def _forget_derived(root: Path) -> None:
    for path in (root / "derived").glob("*.json"):
        try:
            gone = not blob_path(root, json.loads(path.read_text("utf-8"))["digest"]).is_file()
        except (ValueError, KeyError, TypeError):
            gone = True
        if gone:
            path.unlink(missing_ok=True)
