"""Bounds on what others send: how much of each kind, and how slowly.

How long a server may be silent is the setting ``timeout``, for indexes, channels and registries alike; for
engines see :mod:`imagesync.engine.liveness`.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import requests

_CHUNK = 256 * 1024
HEADERS: Final = 4 << 20
"""Bytes of the headers of a package's metadata file, which may hold its description."""
PREFIX_RECORD: Final = 256 << 20
"""Bytes of a file in ``conda-meta``, most of which lists the files of the package."""
PREFIX_RECORD_FIELDS: Final = 32 << 20
"""Bytes of it that are parsed as JSON, which takes up to 25 times as much memory."""
LOCK_FILE: Final = 64 << 20
REPODATA: Final = 2 << 30
"""Bytes of a decompressed file of a conda channel's repodata."""
REPODATA_SECONDS: Final = 900.0
"""For one request for repodata, from which bytes may come slowly."""
OUTPUT: Final = 256 << 20
"""Bytes that a container may print where its output is collected."""
WHEEL: Final = 4 << 30
"""Bytes of a wheel that is built in a container."""
LABEL: Final = 64 << 20
"""Bytes of the decompressed value of an image's label."""
LONGEST_PAUSE: Final = 60.0
"""Seconds to wait before another attempt, whatever a server asks for."""
RESOLUTION_SECONDS: Final = 3600.0
"""For one run of uv or pip-tools, which ask indexes themselves and may build sdists."""
RESOLUTION_MEMORY: Final = 4 << 30
"""Bytes of a process that asks indexes or channels itself."""
SILENCE: Final = 60
"""Seconds without a byte after which an index, a channel or a registry counts as gone, by default."""
SILENCES: Final = 2
"""How often a server may be silent for that long, or too slow, before a request to it is given up."""
SLOWEST: Final = 1000
"""Bytes a second, over each :data:`WINDOW`, that a transfer must have."""
WINDOW: Final = 60.0


class TooMuch(OSError):
    """A transfer has more bytes than it may have."""


class TooSlow(TimeoutError):
    """A transfer has fewer bytes a second than it must have."""


def arriving(response: requests.Response, *, decode: bool = False) -> Iterator[bytes]:
    """Yield the body of a streamed response as it arrives.

    Nothing is collected: a server that sends a byte now and then mustn't keep this process waiting for more.

    Parameters
    ----------
    decode
        Whether to undo a ``Content-Encoding``.

    Raises
    ------
    requests.ConnectionError
        The connection was lost, or was silent for too long.
    """
    import requests
    from urllib3.exceptions import HTTPError

    while True:
        try:
            chunk = response.raw.read1(_CHUNK, decode_content=decode)
        except HTTPError as error:
            raise requests.ConnectionError(error) from error
        if not chunk:
            return
        yield chunk


def is_silence(error: BaseException | None) -> bool:
    """Return True if a server was silent or too slow, rather than hanging up or refusing."""
    import requests
    import urllib3.exceptions

    while error is not None:
        if isinstance(error, (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def bounded(
    chunks: Iterable[bytes],
    *,
    most: int | None = None,
    window: float = WINDOW,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """Yield *chunks*, up to *most* bytes and no slower than :data:`SLOWEST`.

    Parameters
    ----------
    chunks
        As they arrive: what collects bytes for a while hides how slow they come.
    most
        In bytes; ``None`` where nobody knows.
    window
        Seconds over which the speed is measured.
    clock
        Monotonic time in seconds.

    Raises
    ------
    TooMuch
        There are more bytes.
    TooSlow
        They come too slowly.

    >>> list(bounded([b"abc", b"d"], most=3))
    Traceback (most recent call last):
    ...
    imagesync.core.limits.TooMuch: more than the 3 bytes that it may have
    """
    total = arrived = 0
    elapsed = 0.0
    before = clock()
    for chunk in chunks:
        total += len(chunk)
        if most is not None and total > most:
            raise TooMuch(f"more than the {most} bytes that it may have")
        yield chunk
        # The time that the consumer takes counts for the next window at the latest. A longer pause than half
        # a window isn't the sender's, whose silence has a timeout: this process was stopped, or the machine
        # was asleep.
        now = clock()
        elapsed += min(now - before, window / 2)
        before = now
        arrived += len(chunk)
        if elapsed >= window:
            if arrived < SLOWEST * window:
                raise TooSlow(f"only {arrived} bytes in {elapsed:.0f} s")
            elapsed, arrived = 0.0, 0


def inflate(content: bytes, *, most: int, wbits: int = zlib.MAX_WBITS) -> bytes:
    """Return the decompressed *content*.

    Parameters
    ----------
    most
        Bytes of the result; little can be compressed to a thousandth.
    wbits
        The format, as in :func:`zlib.decompress`.

    Raises
    ------
    zlib.error
        It is damaged, incomplete, or more than *most*.

    >>> inflate(zlib.compress(b"abc"), most=3)
    b'abc'
    >>> inflate(zlib.compress(b"abcd"), most=3)
    Traceback (most recent call last):
    ...
    zlib.error: not all within 3 bytes
    """
    inflater = zlib.decompressobj(wbits)
    # One byte more: it takes the call that has room left to see the end.
    inflated = inflater.decompress(content, most + 1)
    if len(inflated) > most or not inflater.eof:
        raise zlib.error(f"not all within {most} bytes")
    return inflated


def retry_after(response: requests.Response) -> float | None:
    """Return the seconds that a response asks to wait (RFC 9110, "Retry-After"), or ``None``.

    It is :data:`LONGEST_PAUSE` at most.
    """
    from datetime import datetime, timezone
    from email.utils import parsedate_to_datetime

    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return LONGEST_PAUSE if len(value) > 5 else min(float(value), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return min(max(0.0, (moment - datetime.now(timezone.utc)).total_seconds()), LONGEST_PAUSE)


def limit_memory(pid: int) -> None:
    """Limit the memory of a process: an answer of an index or channel without an end is held in memory."""
    if sys.platform == "linux":
        import resource

        with suppress(OSError):  # it has ended
            hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
            most = RESOLUTION_MEMORY if hard == resource.RLIM_INFINITY else min(hard, RESOLUTION_MEMORY)
            resource.prlimit(pid, resource.RLIMIT_DATA, (most, hard))
