"""Cache files: JSON that is slow to compute and may be lost at any time.

A cache never fails a command: an unreadable entry is computed again, and an entry that can't be written, on a
full or read-only disk, isn't kept.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from imagesync.core.files import make_way, open_entry, replacing


def cache_path(folder: Path, *identity: object) -> Path:
    """Return the path in *folder* of the entry about *identity*, any JSON values.

    >>> cache_path(Path("trees"), "/home/me/project").name
    'b4231786adc7c13f060ff3a4713b9774.json'
    """
    import hashlib

    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:32]}.json"


def read_cache(path: Path, *, key: object, max_age: float | None = None, is_use: bool = True) -> Any:  # noqa: ANN401  as json.loads
    """Return the content that was written to *path* with the same *key*, or ``None``.

    Truncated entries are ignored.

    Parameters
    ----------
    key
        A JSON value: the format's version, and whatever else the content holds for.
    max_age
        In seconds since the entry was written; without limit by default.
    is_use
        Whether pruning by age spares the entry for it; not where all entries are read to find some.
    """
    try:
        with open_entry(path) as file:
            entry = json.loads(file.read())
        age = time.time() - entry["time"]
        if entry["key"] != _as_json(key) or (max_age is not None and not 0 <= age < max_age):
            return None
        content = entry["content"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if is_use:  # pruning goes by the time of the last one
        with suppress(OSError):
            os.utime(path)
    return content


def write_cache(path: Path, content: object, *, key: object) -> None:
    """Write *content*, a JSON value, to *path*; a reader sees the old entry or the new one.

    Parameters
    ----------
    key
        As in :func:`read_cache`.
    """
    entry = {"key": key, "time": time.time(), "content": content}
    with suppress(OSError):
        # The cache belongs to the user alone, whoever makes its folder first.
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        make_way(path)
        with replacing(path) as file:
            file.write(json.dumps(entry).encode())


def _as_json(value: object) -> Any:  # noqa: ANN401  as json.loads
    return json.loads(json.dumps(value))
