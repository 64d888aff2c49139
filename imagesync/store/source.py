"""Read artifacts from local files or from indexes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imagesync.core.files import read_chunks
from imagesync.core.limits import arriving, bounded
from imagesync.indexes.pypi.access import Access, get, open_session


def local_path(url: str) -> Path | None:
    """Return the path behind a ``file://`` URL, or ``None`` for any other URL."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if os.name == "posix":
        return Path(unquote(parts.path))
    # Handles drive letters; importing it takes 20 ms.
    from urllib.request import url2pathname

    return Path(url2pathname(parts.path))


def file_stamp(url: str) -> list[int]:
    """Return size and modification time behind a ``file://`` URL; nothing for any other URL.

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


@contextmanager
def open_source(url: str, *, access: Access) -> Iterator[Iterator[bytes]]:
    """Open *url*, or the first of its mirrors that can be read, and give its bytes in chunks.

    Raises
    ------
    OSError
        It can't be read (the errors of requests are of this kind).
    """
    *mirrors, last = access.places(url)
    with ExitStack() as stack:
        for place in mirrors:
            with suppress(OSError):
                chunks = _open(place, access, stack)
                break
        else:
            chunks = _open(last, access, stack)
        yield chunks


def _open(url: str, access: Access, stack: ExitStack) -> Iterator[bytes]:
    if (path := local_path(url)) is not None:
        return read_chunks(stack.enter_context(path.open("rb")))
    session = stack.enter_context(open_session(access))
    response = stack.enter_context(get(session, url, access=access))
    response.raise_for_status()
    return bounded(arriving(response))
