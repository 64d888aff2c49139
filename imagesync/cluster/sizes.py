"""How many workers, and how large: from what the user says and what the engine's machine has."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from imagesync.build.client import engine_errors
from imagesync.cluster.options import WorkerOptions
from imagesync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesync.cluster.engine import ClusterEngine


class _Machine:
    """The engine's machine, asked only where an answer depends on it."""

    def __init__(self, engine: ClusterEngine) -> None:
        self._engine = engine

    @cached_property
    def info(self) -> Mapping[str, Any]:
        with engine_errors("say what its machine has"):
            info: Mapping[str, Any] = self._engine.api.info()
        return info

    @property
    def cpus(self) -> int:
        return int(self.info["NCPU"])

    @property
    def memory(self) -> int:
        return int(self.info["MemTotal"])


def worker_sizes(
    engine: ClusterEngine,
    *,
    n_workers: int | None,
    nthreads: int | None,
    memory_limit: str | float | None,
    cpus: float | None,
) -> tuple[int, WorkerOptions]:
    """Return the number of workers and each one's threads, memory and CPUs.

    Parameters
    ----------
    memory_limit
        ``auto``, bytes, ``4GiB``, or 0 or ``None`` for no limit.
    cpus
        ``None`` for as many as there are threads, 0 for no limit.

    Raises
    ------
    UsageError
        A number is negative, or a size has no form that Dask knows.
    """
    if min(n_workers or 0, nthreads or 0, cpus or 0) < 0:
        raise UsageError("Numbers of workers, threads and CPUs can't be negative.")
    machine = _Machine(engine)
    n_workers, nthreads = _counts(machine, n_workers, nthreads)
    if cpus is None:
        cpus = min(nthreads, machine.cpus)
    memory = _memory(memory_limit, machine, workers=n_workers)
    return n_workers, WorkerOptions(nthreads=nthreads, memory_limit=memory, cpus=cpus)


def _counts(machine: _Machine, n_workers: int | None, nthreads: int | None) -> tuple[int, int]:
    from distributed.deploy.utils import nprocesses_nthreads

    if n_workers is None and nthreads is None:
        workers, threads = nprocesses_nthreads(machine.cpus)
        return int(workers), int(threads)
    if n_workers is None:
        return max(1, machine.cpus // (nthreads or 1)), nthreads or 1
    return n_workers, nthreads or max(1, machine.cpus // max(1, n_workers))


def _memory(limit: str | float | None, machine: _Machine, *, workers: int) -> int:
    from dask.utils import parse_bytes

    if limit == "auto":
        return machine.memory // max(1, workers)
    try:
        return int(parse_bytes(limit or 0))
    except ValueError as error:
        raise UsageError(
            f"{limit!r} is no amount of memory.", hint="Write it as 4GiB, in bytes, or auto."
        ) from error
