"""Transfers of several blobs at once, of which the first failure stops all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass
from typing import TypeVar

from imagesync.core.worker_pool import WorkerPool
from imagesync.errors import RegistryError
from imagesync.registry.manifest import Descriptor
from imagesync.registry.oci_image import BlobSource

WORKERS = 4
_T = TypeVar("_T")


class Stoppable:
    """A source of blobs that ends all transfers at their next chunk when it is stopped."""

    def __init__(self, blobs: BlobSource) -> None:
        self._blobs = blobs
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End all transfers."""
        self._stopped.set()

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the content of a blob in chunks."""
        for chunk in self._blobs.read(descriptor):
            if self._stopped.is_set():
                raise RegistryError("stopped, because another transfer failed")
            yield chunk


@dataclass(frozen=True)
class CountedBlobs:
    """A source of blobs that tells how much of them is read.

    Parameters
    ----------
    blobs
        Where they are read.
    count
        Called with the size of each chunk.
    """

    blobs: BlobSource
    count: Callable[[int], None]

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the content of a blob in chunks."""
        for chunk in self.blobs.read(descriptor):
            yield chunk
            self.count(len(chunk))


def in_parallel(
    function: Callable[[Descriptor], _T],
    blobs: Sequence[Descriptor],
    *,
    stop: Callable[[], None] = lambda: None,
) -> list[_T]:
    """Return the results of *function* for each of *blobs*; the first error stops all.

    Parameters
    ----------
    stop
        Called on an error or an interrupt, to end what is running.
    """
    if len(blobs) < 2:
        return [function(blob) for blob in blobs]
    with WorkerPool(min(WORKERS, len(blobs)), thread_name_prefix="registry") as pool:
        futures = [pool.submit(function, blob) for blob in blobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            stop()
            raise
