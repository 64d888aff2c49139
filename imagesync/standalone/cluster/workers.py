"""What schedulers and workers say of workers that are to be started again, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler, Worker


def irreplaceable(workers: list[str], dask_scheduler: Scheduler) -> int:
    """Return how much these workers hold alone that can't be computed again: scattered data, and actors."""
    states = {dask_scheduler.workers[address] for address in workers if address in dask_scheduler.workers}
    held = {task for state in states for task in state.has_what if (task.who_has or set()) <= states}
    return sum(task.run_spec is None for task in held) + sum(len(state.actors) for state in states)


def way_back(dask_worker: Worker) -> str:
    """Return who starts this worker again when it ends; empty for nobody."""
    if dask_worker.nanny:
        return "nanny"
    return "container" if getattr(dask_worker, "starts_again", False) else ""


def leave(dask_worker: Worker) -> None:
    """End this worker, so that it is started again."""
    close = dask_worker.close(nanny=False, executor_wait=False, reason="imagesync-sync")
    dask_worker.loop.add_callback(lambda: close)
