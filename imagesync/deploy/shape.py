"""The name and size of a cluster, in the units of deployment targets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagesync.errors import UsageError

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kMGT]i?)?B?", re.IGNORECASE)
_UNITS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kmgt", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)},
}
# RFC 1123, section 2.1, valid in Kubernetes, Swarm and Compose, with room for their suffixes.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_GIB = 1024
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size:
# CPU units; minimum, maximum and step of the memory in MiB.
_FARGATE = (
    (1024, 2 * _GIB, 8 * _GIB, _GIB),
    (2048, 4 * _GIB, 16 * _GIB, _GIB),
    (4096, 8 * _GIB, 30 * _GIB, _GIB),
    (8192, 16 * _GIB, 60 * _GIB, 4 * _GIB),
    (16384, 32 * _GIB, 120 * _GIB, 8 * _GIB),
)


@dataclass(frozen=True)
class Shape:
    """A cluster's name and size.

    Parameters
    ----------
    name
        Lower-case letters, digits and dashes.
    workers
        Number of workers.
    threads
        Threads and CPUs of each worker.
    memory
        Memory of each worker in MiB.
    """

    name: str
    workers: int
    threads: int
    memory: int

    def fargate(self, *, scheduler: bool = False) -> tuple[int, int]:
        """Return CPU units and MiB of the smallest Fargate task for a worker or the scheduler.

        Raises
        ------
        UsageError
            No task size is large enough.

        >>> Shape("dask", workers=2, threads=2, memory=5000).fargate()
        (2048, 5120)
        >>> Shape("dask", workers=2, threads=1, memory=10240).fargate()
        (2048, 10240)
        """
        threads, memory = (1, 4 * _GIB) if scheduler else (self.threads, self.memory)
        for cpu, least, most, step in _FARGATE:
            if cpu >= 1024 * threads and memory <= most:
                return cpu, max(least, -(-memory // step) * step)
        raise UsageError(
            f"Fargate has no task with {threads} CPUs and {memory} MiB of memory.",
            hint="It goes up to 16 CPUs and 120 GiB: choose smaller workers, and more of them.",
        )


def make_shape(*, name: str, workers: int, threads: int, memory: str) -> Shape:
    """Return the shape from a user's options.

    Parameters
    ----------
    name, workers, threads
        As for :class:`Shape`.
    memory
        Memory of each worker, such as ``4GiB`` or ``500MB``.

    Raises
    ------
    UsageError
        The name or the size is invalid.

    >>> make_shape(name="dask", workers=2, threads=1, memory="4GiB").memory
    4096
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"A cluster can't be called {name!r}.",
            hint="It takes up to 40 lower-case letters, digits and dashes, with a letter first.",
        )
    match = _SIZE.fullmatch(memory.strip())
    size = 0 if match is None else float(match["number"]) * _UNITS[(match["unit"] or "").lower()]
    if size < 64 * 2**20:
        raise UsageError(
            f"A worker's memory can't be {memory!r}.", hint="It takes a size from 64 MiB up, such as 4GiB."
        )
    return Shape(name, workers, threads, int(size / 2**20))
