"""How large a cluster is to be, in the units of those who start it."""

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
# RFC 1123, section 2.1: what Kubernetes, Swarm and Compose all take for a name; theirs may be suffixed.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_GIB = 1024
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size:
# CPU units, and memory in MiB from, to, in steps of.
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
        In lower case, with letters, digits and dashes.
    workers
        How many.
    threads
        Tasks that a worker runs at once, and the CPUs that it gets.
    memory
        Of each worker, in MiB.
    """

    name: str
    workers: int
    threads: int
    memory: int

    def fargate(self, *, scheduler: bool = False) -> tuple[int, int]:
        """Return CPU units and MiB of the smallest task of Fargate that a worker, or the scheduler, fits in.

        Raises
        ------
        UsageError
            None is large enough.

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
    """Return a shape from what a user writes.

    Parameters
    ----------
    memory
        Such as ``4GiB`` or ``500MB``.

    Raises
    ------
    UsageError
        The name, or the size, has another form.

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
