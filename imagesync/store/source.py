"""Reading an artifact's bytes where they are: a file on this machine, or an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from imagesync.indexes.pypi.access import Access, get, open_session
from imagesync.store.local import local_path

CHUNK = 256 * 1024


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what *file* holds from where it stands."""
    while chunk := file.read(CHUNK):
        yield chunk


@contextmanager
def open_source(url: str, *, access: Access) -> Iterator[Iterator[bytes]]:
    """Open *url* and give its bytes, in chunks.

    Raises
    ------
    OSError
        It can't be read (the errors of requests are of this kind).
    """
    if (path := local_path(url)) is not None:
        with path.open("rb") as file:
            yield read_chunks(file)
        return
    with open_session(access) as session, get(session, url, access=access) as response:
        response.raise_for_status()
        yield response.iter_content(CHUNK)
