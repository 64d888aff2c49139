"""Restart workers: what they hold, what starts them again, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler, Worker


def irreplaceable(workers: list[str], dask_scheduler: Scheduler) -> int:
    """Return the number of results and actors that only these workers hold and that can't be recomputed."""
    states = {dask_scheduler.workers[address] for address in workers if address in dask_scheduler.workers}
    held = {task for state in states for task in state.has_what if (task.who_has or set()) <= states}
    return sum(task.run_spec is None for task in held) + sum(len(state.actors) for state in states)


def way_back(dask_worker: Worker) -> str:
    """Return the name of what restarts this worker: ``nanny``, ``container``, or nothing."""
    if dask_worker.nanny:
        return "nanny"
    return "container" if getattr(dask_worker, "starts_again", False) else ""


def leave(dask_worker: Worker) -> None:
    """End this worker, so that it is restarted."""
    close = dask_worker.close(nanny=False, executor_wait=False, reason="imagesync-sync")
    dask_worker.loop.add_callback(lambda: close)
