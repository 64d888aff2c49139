"""How long ago workers were heard of; runs in schedulers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler


def silences(dask_scheduler: Scheduler) -> dict[str, float]:
    """Return the seconds since the last heartbeat of each worker, by its address."""
    from distributed.metrics import time

    now = time()
    return {address: now - worker.last_seen for address, worker in dask_scheduler.workers.items()}
