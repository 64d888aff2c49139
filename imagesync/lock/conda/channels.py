"""The user's channels, with all that the lock asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.lock.conda.archives import Archives
from imagesync.lock.conda.solver import CondaRequest
from imagesync.lock.lock import LockedConda
from imagesync.store.access import Access

if TYPE_CHECKING:
    from imagesync.scan.environment import CondaRecord
    from imagesync.store.store import Store
    from imagesync.ui.progress import Progress


@dataclass(frozen=True)
class Channels:
    """Channels in their order, and their archives; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""

    channels: tuple[str, ...]
    archives: Archives

    def available(self, names: Iterable[str]) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return what the channels have; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        raise NotImplementedError

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return what satisfies *request*; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        raise NotImplementedError

    def digest(self, record: CondaRecord) -> str:
        """Return the digest of an archive; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.archives.digest(record)


def open_channels(
    channels: Sequence[str], *, prefix: Path, environ: Mapping[str, str], store: Store, progress: Progress
) -> Channels:
    """Return the user's *channels* and package caches, reached with conda's configuration.

    Parameters
    ----------
    channels
        URLs without credentials, first the one that wins.
    prefix
        The environment, which may have a configuration of its own.
    """
    archives = Archives(store, Access(), (), progress)
    return Channels(tuple(channels), archives)
