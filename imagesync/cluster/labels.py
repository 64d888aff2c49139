"""Labels of a cluster's containers and networks, and the process that owns the cluster."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

CLUSTER: Final = "dev.imagesync.cluster"
ROLE: Final = "dev.imagesync.cluster.role"
WORKER: Final = "dev.imagesync.cluster.worker"
OWNER: Final = "dev.imagesync.cluster.owner"


@dataclass(frozen=True)
class Owner:
    """The process that a cluster ends with.

    Parameters
    ----------
    host
        Name of its machine.
    pid
        Process ID.
    started
        Start time in seconds since the epoch, since process IDs are reused.
    """

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        """Return the owner as the value of a label.

        >>> str(Owner("desk", 4711, 1700000000.25))
        'desk/4711/1700000000.25'
        """
        return f"{self.host}/{self.pid}/{self.started:.2f}"

    @property
    def has_ended(self) -> bool:
        """Whether the process is known to have ended; false for processes of other machines."""
        if self.host != socket.gethostname():
            return False
        try:
            import psutil
        except ImportError:  # a dependency of Dask, which listing clusters doesn't need
            return False
        try:
            # Start times are measured in kernel ticks, so that two readings may differ slightly.
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) > 1)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def this_process() -> Owner:
    """Return this process as an owner."""
    import psutil

    return Owner(socket.gethostname(), os.getpid(), psutil.Process().create_time())


def parse_owner(label: str) -> Owner | None:
    """Return the owner that a label names, or ``None`` for a detached cluster.

    >>> parse_owner("desk/4711/1700000000.25").pid
    4711
    >>> parse_owner("") is None
    True
    """
    host, _, rest = label.rpartition("/")[0].rpartition("/")
    try:
        return Owner(host, int(rest), float(label.rpartition("/")[2]))
    except ValueError:
        return None


def close_in_children(close: Callable[[], None]) -> None:
    """Call *close*, a bound method, in every process forked from this one.

    A cluster ends when its owner's connection does. A forked process that outlives the owner would hold the
    connection open and keep the cluster alive.
    """
    if not hasattr(os, "register_at_fork"):
        return
    # A registration can't be undone: hold the object weakly.
    reference = weakref.WeakMethod(close)

    def in_child() -> None:
        method = reference()
        if method is not None:
            with suppress(OSError, ValueError):
                method()

    os.register_at_fork(after_in_child=in_child)
