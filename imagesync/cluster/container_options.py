"""Options of scheduler and workers, the number and size of workers, and the check that Dask is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import Any, NamedTuple

from imagesync.cluster.engine_options import EngineOptions
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
    dask
        Further arguments of :class:`distributed.Worker`.
    engine
        Options for the engine.
    """

    nthreads: int = 1
    memory_limit: int = 0
    cpus: float = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    gpus: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)
    nanny: bool = False
    dask: Mapping[str, Any] = field(default_factory=dict)
    engine: EngineOptions = field(default_factory=EngineOptions)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON for :func:`worker_options_from_dict`."""
        return {**asdict(self), "mounts": [asdict(mount) for mount in self.mounts]}


def worker_options_from_dict(content: Mapping[str, Any]) -> WorkerOptions:
    """Return the options from the JSON of :meth:`WorkerOptions.to_dict`."""
    nested = {
        "mounts": tuple(Mount(**mount) for mount in content["mounts"]),
        "engine": EngineOptions(**content.get("engine", {})),
    }
    return WorkerOptions(**{**content, **nested})


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
    environment, mounts, engine
        As for workers.
    dask
        Further arguments of :class:`distributed.Scheduler`.
    groups
        Names of the groups of workers.
    """

    host: str = "127.0.0.1"
    port: int = 0
    dashboard_port: int = 0
    idle_timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    dask: Mapping[str, Any] = field(default_factory=dict)
    engine: EngineOptions = field(default_factory=EngineOptions)
    groups: tuple[str, ...] = ()


class ClusterSize(NamedTuple):
    """Sizes of a cluster as a user gives them; ``None`` (``auto`` for memory) where nothing is given."""

    workers: int | None = None
    nthreads: int | None = None
    memory_limit: str | float | None = "auto"
    cpus: float | None = None
    shm_size: str | int | None = None


def with_defaults(given: ClusterSize, settings: Mapping[str, str]) -> ClusterSize:
    """Return sizes with those of the setting ``cluster`` where none is given.

    Parameters
    ----------
    given
        Arguments or options.
    settings
        Values by ``workers``, ``nthreads``, ``memory-limit``, ``cpus`` and ``shm-size``.

    >>> with_defaults(ClusterSize(workers=2), {"workers": "4", "memory-limit": "1GiB"})
    ClusterSize(workers=2, nthreads=None, memory_limit='1GiB', cpus=None, shm_size=None)
    """
    converters = {"workers": int, "nthreads": int, "cpus": float}
    unset = ClusterSize()
    found = {}
    for name, value in settings.items():
        field_name = name.replace("-", "_")
        if getattr(given, field_name) == getattr(unset, field_name):
            found[field_name] = converters.get(name, str)(value)
    return given._replace(**found)


def published_dashboard_port(address: str | int | None, port: int) -> int:
    """Return the port of ``dashboard_address``, as Dask's own clusters name it; else *port*.

    Raises
    ------
    UsageError
        It isn't a port, or has a host: that is the argument ``host``.

    >>> published_dashboard_port(":8787", 0), published_dashboard_port(None, 8080)
    (8787, 8080)
    """
    if address is None:
        return port
    text = str(address)
    if not text.removeprefix(":").isdigit():
        raise UsageError(
            f"dashboard_address={address!r} isn't a port.",
            hint="Write dashboard_address=':8787'; `host` is the address for scheduler and dashboard.",
        )
    return int(text.removeprefix(":"))


def same_threads(nthreads: int | None, threads_per_worker: int | None) -> int | None:
    """Return the threads of a worker, by our name or by that of :class:`distributed.LocalCluster`.

    Raises
    ------
    UsageError
        Both are given, and differ.
    """
    if None not in (nthreads, threads_per_worker) and nthreads != threads_per_worker:
        raise UsageError("nthreads and threads_per_worker are the same option: give one of them.")
    return threads_per_worker if nthreads is None else nthreads


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


def size_workers(machine: Machine, worker: WorkerOptions, size: ClusterSize) -> tuple[int, WorkerOptions]:
    """Return the number of workers, and *worker* with the threads, memory and CPUs of each.

    Parameters
    ----------
    machine
        CPUs and memory to share.
    worker
        The other options of the workers.
    size
        Sizes: ``None`` for a choice by CPUs, and for one CPU per thread; 0 CPUs, or a memory limit of 0 or
        ``None``, for no limit.

    Raises
    ------
    UsageError
        A number is negative, or Dask can't parse a size.

    >>> machine, worker = Machine(8, 16 * 2**30), WorkerOptions()
    >>> count, worker = size_workers(machine, worker, ClusterSize(workers=4))
    >>> count, worker.nthreads, worker.cpus, worker.memory_limit == 4 * 2**30
    (4, 2, 2, True)
    """
    if min(size.workers or 0, size.nthreads or 0, size.cpus or 0) < 0:
        raise UsageError("Numbers of workers, threads and CPUs can't be negative.")
    n_workers, nthreads = _counts(machine, size.workers, size.nthreads)
    return n_workers, replace(
        worker,
        nthreads=nthreads,
        memory_limit=_memory(size.memory_limit, machine, workers=n_workers),
        cpus=min(nthreads, machine.cpus) if size.cpus is None else size.cpus,
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
