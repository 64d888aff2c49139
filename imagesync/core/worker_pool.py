"""Threads for calls that run side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType


class WorkerPool(ThreadPoolExecutor):
    """A thread pool that, as a context manager, runs no further calls after an error.

    An error waits for the calls that are running, because they use what the block around it has made. An
    interrupt doesn't: the process ends, and they with it (:mod:`imagesync.core.interruption`).
    """

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the calls, unless the block was interrupted."""
        is_interrupted = exc_type is not None and not issubclass(exc_type, Exception)
        self.shutdown(wait=not is_interrupted, cancel_futures=exc_type is not None)
