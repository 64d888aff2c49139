"""Why a cluster doesn't start, by the logs of its containers, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from imagesync.cluster.cluster_plan import START_TIMEOUT
from imagesync.core.text import counted, log_end
from imagesync.errors import ClusterError
from imagesync.standalone.cluster import node

_FAILURES = 3  # after which a worker isn't waited for


@dataclass(frozen=True)
class StartFailure:
    """A worker that doesn't join.

    Parameters
    ----------
    part
        ``worker-<name>``.
    log
        The last lines that it wrote; empty if there are none.
    has_ended
        Whether its container has ended.
    """

    part: str
    log: str
    has_ended: bool = False

    @property
    def failures(self) -> int:
        """How often its process has ended."""
        return sum(line.startswith(node.FAILED) for line in self.log.splitlines())

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether it was ended since its container needed more memory than its limit."""
        return node.OUT_OF_MEMORY in self.log

    def error(self, *, image: str, memory_limit: int, joined: int, workers: int) -> ClusterError:
        """Return the error that says how many have joined, what ended this one, and what to do.

        Parameters
        ----------
        image
            Reference of the cluster's image.
        memory_limit
            Bytes of each worker; 0 for no limit.
        joined, workers
            Numbers of workers that have joined, and that should have.
        """
        from dask.utils import format_bytes

        said = f"{joined} of {counted(workers, 'worker')} joined the cluster: {self.part} "
        hint = f"Check that `distributed` works there: docker run --rm {image} python -c 'import distributed'"
        if self.ran_out_of_memory:
            said += f"ran out of memory, of which it has {format_bytes(memory_limit)}."
            hint = "Give each worker more: --memory-limit 1GiB, or 0 for no limit."
        elif self.failures:
            said += f"failed {counted(self.failures, 'time')}."
        elif self.has_ended:
            said += "has ended."
            if memory_limit:
                hint = f"Its memory was limited to {format_bytes(memory_limit)}: try a higher --memory-limit."
        else:
            said += f"hasn't come within {START_TIMEOUT:.0f} s."
            hint = "Start fewer workers at once, and add others later: imagesync cluster scale NAME WORKERS"
        return ClusterError(f"{said}{log_end(self.log)}", hint=hint)


def find_failure(logs: Mapping[str, str], *, running: Collection[str], expired: bool) -> StartFailure | None:
    """Return the first worker that won't join; ``None`` if all may still do.

    Parameters
    ----------
    logs
        What each worker that hasn't joined has written, by ``worker-<name>``.
    running
        The parts of the cluster whose containers exist.
    expired
        Whether the time to wait is over.
    """
    failures = [StartFailure(part, log, part not in running) for part, log in sorted(logs.items())]
    for failure in failures:
        if failure.has_ended or failure.failures >= _FAILURES:
            return failure
    return failures[0] if expired and failures else None
