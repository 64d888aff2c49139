"""Number and size of workers, from the user's options and the machine's CPUs and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.cluster.options import WorkerOptions
from imagesync.engine.client import engine_errors
from imagesync.errors import UsageError

if TYPE_CHECKING:
    from imagesync.cluster.engine import ClusterEngine


@dataclass(frozen=True)
class Machine:
    """CPUs and memory that all workers share.

    Parameters
    ----------
    cpus
        Number of CPUs.
    memory
        Bytes.
    """

    cpus: int
    memory: int


def machine_of(engine: ClusterEngine) -> Machine:
    """Return CPUs and memory of the engine's machine.

    Raises
    ------
    EngineError
        The engine doesn't report them.
    """
    with engine_errors("say what its machine has"):
        info = engine.api.info()
    return Machine(int(info["NCPU"]), int(info["MemTotal"]))


def size_workers(
    machine: Machine,
    *,
    n_workers: int | None,
    nthreads: int | None,
    memory_limit: str | float | None,
    cpus: float | None,
) -> tuple[int, WorkerOptions]:
    """Return the number of workers, and the threads, memory and CPUs of each.

    Parameters
    ----------
    machine
        CPUs and memory to share.
    n_workers, nthreads
        Number of workers, and of threads of each; ``None`` for a choice by CPUs.
    memory_limit
        ``auto``, bytes, a text such as ``4GiB``, or 0 or ``None`` for no limit.
    cpus
        CPUs of each worker; ``None`` for one per thread, 0 for no limit.

    Raises
    ------
    UsageError
        A number is negative, or Dask can't parse a size.

    >>> count, worker = size_workers(
    ...     Machine(8, 16 * 2**30), n_workers=4, nthreads=None, memory_limit="auto", cpus=None
    ... )
    >>> count, worker.nthreads, worker.cpus, worker.memory_limit == 4 * 2**30
    (4, 2, 2, True)
    """
    if min(n_workers or 0, nthreads or 0, cpus or 0) < 0:
        raise UsageError("Numbers of workers, threads and CPUs can't be negative.")
    n_workers, nthreads = _counts(machine, n_workers, nthreads)
    return n_workers, WorkerOptions(
        nthreads=nthreads,
        memory_limit=_memory(memory_limit, machine, workers=n_workers),
        cpus=min(nthreads, machine.cpus) if cpus is None else cpus,
    )


def _counts(machine: Machine, n_workers: int | None, nthreads: int | None) -> tuple[int, int]:
    from distributed.deploy.utils import nprocesses_nthreads

    if n_workers is None and nthreads is None:
        workers, threads = nprocesses_nthreads(machine.cpus)
        return int(workers), int(threads)
    if n_workers is None:
        return max(1, machine.cpus // (nthreads or 1)), nthreads or 1
    return n_workers, nthreads or max(1, machine.cpus // max(1, n_workers))


def _memory(limit: str | float | None, machine: Machine, *, workers: int) -> int:
    from dask.utils import parse_bytes

    if limit == "auto":
        return machine.memory // max(1, workers)
    try:
        return int(parse_bytes(limit or 0))
    except ValueError as error:
        raise UsageError(
            f"{limit!r} is no amount of memory.", hint="Write it as 4GiB, in bytes, or auto."
        ) from error
