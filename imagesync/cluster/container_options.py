"""Options of scheduler and workers, the number and size of workers, and the check that Dask is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from imagesync.core.installation import own_installation
from imagesync.engine.run_container import Mount
from imagesync.errors import ClusterError, UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class WorkerOptions:
    """Options of a worker.

    Parameters
    ----------
    nthreads
        Number of tasks that it runs at once.
    memory_limit
        Bytes, for Dask and for the engine; 0 for no limit.
    cpus
        Number of CPUs that the engine grants; 0 for no limit.
    environment
        Environment variables; not for secrets, since ``docker inspect`` shows them.
    mounts
        Folders and volumes.
    gpus
        ``all``, a number, or IDs separated by commas; empty for none.
    resources
        Dask's abstract resources by name.
    nanny
        Whether Dask's nanny supervises the worker, which nanny plugins need.
    """

    nthreads: int = 1
    memory_limit: int = 0
    cpus: float = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    gpus: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)
    nanny: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON for :func:`worker_options_from_dict`."""
        return {**asdict(self), "mounts": [asdict(mount) for mount in self.mounts]}


def worker_options_from_dict(content: Mapping[str, Any]) -> WorkerOptions:
    """Return the options from the JSON of :meth:`WorkerOptions.to_dict`."""
    return WorkerOptions(**{**content, "mounts": tuple(Mount(**mount) for mount in content["mounts"])})


@dataclass(frozen=True)
class SchedulerOptions:
    """Options of the scheduler.

    Parameters
    ----------
    host
        Address of the engine's machine at which ports are published.
    port, dashboard_port
        Ports; 0 for any free one.
    idle_timeout
        Seconds without work after which the cluster ends; ``None`` for never.
    environment, mounts
        As for workers.
    """

    host: str = "127.0.0.1"
    port: int = 0
    dashboard_port: int = 0
    idle_timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()


def check_name(name: str) -> str:
    """Return *name* if it is valid in the names of containers and networks.

    Raises
    ------
    UsageError
        It isn't.

    >>> check_name("nightly-2")
    'nightly-2'
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} isn't a valid name of a cluster.",
            hint="Use up to 40 of a-z, 0-9, '-', '_' and '.', starting with a letter or a digit.",
        )
    return name


def require_dask() -> None:
    """Check that Dask and cryptography are installed.

    Raises
    ------
    ClusterError
        One is missing.
    """
    missing = [name for name in ("distributed", "cryptography") if find_spec(name) is None]
    if missing:
        raise ClusterError(
            f"Clusters need {' and '.join(missing)} in the environment that imagesync runs in.",
            hint=f"Install it there: {own_installation().add_extra('dask')}",
        )


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


def size_workers(
    machine: Machine,
    worker: WorkerOptions,
    *,
    n_workers: int | None,
    nthreads: int | None,
    memory_limit: str | float | None,
    cpus: float | None,
) -> tuple[int, WorkerOptions]:
    """Return the number of workers, and *worker* with the threads, memory and CPUs of each.

    Parameters
    ----------
    machine
        CPUs and memory to share.
    worker
        The other options of the workers.
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

    >>> machine, worker = Machine(8, 16 * 2**30), WorkerOptions()
    >>> count, worker = size_workers(
    ...     machine, worker, n_workers=4, nthreads=None, memory_limit="auto", cpus=None
    ... )
    >>> count, worker.nthreads, worker.cpus, worker.memory_limit == 4 * 2**30
    (4, 2, 2, True)
    """
    if min(n_workers or 0, nthreads or 0, cpus or 0) < 0:
        raise UsageError("Numbers of workers, threads and CPUs can't be negative.")
    n_workers, nthreads = _counts(machine, n_workers, nthreads)
    return n_workers, replace(
        worker,
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
            f"{limit!r} isn't an amount of memory.", hint="Write it as 4GiB, in bytes, or auto."
        ) from error
