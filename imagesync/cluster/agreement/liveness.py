"""Waiting for answers of a cluster whose scheduler and workers may have stopped without ending.

The connections of a process that is stopped stay open, and nothing that it was asked is ever answered.
Meanwhile a second connection asks the scheduler, which knows when it last heard of each worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from imagesync.core.text import counted
from imagesync.errors import ClusterError
from imagesync.standalone.programs import Remote

if TYPE_CHECKING:
    from distributed import Client

EVERY: Final = 15.0
"""Seconds between two questions."""
PATIENCE: Final = 60.0
"""Seconds without an answer after which a scheduler or a worker counts as gone."""
_T = TypeVar("_T")


def silent(part: str, seconds: float | None = None) -> ClusterError:
    """Return the error for a part of a cluster that stopped answering.

    Parameters
    ----------
    part
        The subject of the message, such as "The scheduler".
    seconds
        How long it hasn't answered; :data:`PATIENCE` by default.
    """
    return ClusterError(
        f"{part} hasn't answered for {PATIENCE if seconds is None else seconds:.0f} s.",
        hint="A container that is paused, or a machine that hangs, doesn't answer: continue or remove it, and"
        " try again.",
    )


async def while_answering(client: Client, work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of *work*, which waits for answers of the cluster.

    Parameters
    ----------
    client
        A connected client, whose event loop runs the coroutine.
    work
        Cancelled when the cluster stops answering.

    Raises
    ------
    ClusterError
        The scheduler hasn't answered for :data:`PATIENCE` seconds, or hasn't heard of a worker for that long;
        for half of it where *work* has failed meanwhile.
    """
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(_await_silence(client))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise watching.result()
        if (error := working.exception()) and (reason := await _reason(client)):
            raise reason from error
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        # A connection to somebody who reads nothing may not even close.
        await asyncio.wait((working, watching), timeout=1)


async def _silences(client: Client, timeout: float) -> dict[str, float]:
    """Return the seconds since each worker was heard of, as the scheduler says within *timeout* seconds."""
    question = client.run_on_scheduler(Remote("heartbeats", "silences"))
    found: dict[str, float] = await asyncio.wait_for(question, timeout)
    return found


async def _reason(client: Client) -> ClusterError | None:
    """Return the error for a silent worker, to which Dask itself gave up connecting; ``None`` without any."""
    try:
        silences = await _silences(client, 5)
    except Exception:  # the error of the work tells more
        return None
    gone = {address: seconds for address, seconds in silences.items() if seconds > PATIENCE / 2}
    return silent(_subject(*sorted(gone)), min(gone.values())) if gone else None


async def _await_silence(client: Client) -> ClusterError:
    """Return an error as soon as the scheduler or a worker has been silent for too long."""
    answered = time.monotonic()
    while True:
        await asyncio.sleep(EVERY)
        try:
            silences = await _silences(client, max(0.0, answered + PATIENCE - time.monotonic()))
        except Exception:  # whatever is wrong with the connection: it may come back
            if time.monotonic() >= answered + PATIENCE - 1:
                return silent("The scheduler")
            continue
        answered = time.monotonic()
        if gone := sorted(address for address, seconds in silences.items() if seconds > PATIENCE):
            return silent(_subject(*gone))


def _subject(first: str, *others: str) -> str:
    return f"The worker {first}" + (f", like {counted(len(others), 'other')}," if others else "")
