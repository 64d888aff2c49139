"""Artifacts that are files of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit


def local_path(url: str) -> Path | None:
    """Return the path behind a ``file://`` URL, or ``None`` for any other URL."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if os.name == "posix":
        return Path(unquote(parts.path))
    # Drive letters; it takes 20 ms to import.
    from urllib.request import url2pathname

    return Path(url2pathname(parts.path))


def file_stamp(url: str) -> list[int]:
    """Return what tells whether a file of this machine is still the same; nothing for one of an index.

    >>> file_stamp("https://index.example/alder-1.0-py3-none-any.whl")
    []
    """
    path = local_path(url)
    if path is None:
        return []
    try:
        status = path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]
