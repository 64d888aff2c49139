"""The archives of conda packages: in the store, in the user's package caches, or from their channels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact
from imagesync.core.digests import file_hexdigest
from imagesync.errors import ArtifactGone, FetchError, HashMismatch
from imagesync.indexes.pypi.access import Access
from imagesync.lock.locked_packages import Artifact, LockedConda
from imagesync.store.download import Download
from imagesync.store.parallel_fetch import fetch_available
from imagesync.store.source import local_path, open_source
from imagesync.store.store import Store, StoredFile

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.scan.environment import CondaRecord


@dataclass(frozen=True)
class Archives:
    """The sources of archives, and the store that keeps them.

    Parameters
    ----------
    store
        Keeps archives.
    access
        Credentials and TLS settings of the channels.
    caches
        The user's package caches (``pkgs_dirs``), which have archives by their names.
    progress
        Shows downloads.
    """

    store: Store
    access: Access
    caches: tuple[Path, ...]
    progress: Progress

    def obtain(self, packages: Sequence[LockedConda]) -> tuple[StoredFile | ArtifactGone, ...]:
        """Return the archives of *packages*, in their order; for a missing one the answer of its channel.

        Archives in a package cache aren't fetched.

        Raises
        ------
        HashMismatch
            An archive doesn't have its digest.
        FetchError
            A channel doesn't answer.
        """
        present = [p for p in packages if self.has(p.artifact) or not self._is_missing(p.artifact)]
        found = dict(
            zip(
                (package.artifact.digest for package in present),
                fetch_available(
                    [_download(package.artifact) for package in present],
                    store=self.store,
                    access=self.access,
                    progress=self.progress,
                ),
                strict=True,
            )
        )
        return tuple(found.get(p.artifact.digest) or _missing(p.artifact) for p in packages)

    def has(self, artifact: Artifact) -> bool:
        """Return True if *artifact* is in the store, or was copied there from a package cache."""
        if not self.store.has(artifact.digest):
            self._add_from_caches(artifact)
        return self.store.has(artifact.digest)

    def digest(self, record: CondaRecord) -> str:
        """Return ``sha256:<hex>`` of the archive of a *record* without one, checked by its MD5.

        Raises
        ------
        HashMismatch
            The archive has another MD5.
        FetchError
            The archive can't be fetched, or the record has no MD5 either.
        """
        if not record.md5:
            raise FetchError(
                f"The record of {record.name} {record.version} has no checksum to check its archive by.",
                hint=f"Install it again: conda install --force-reinstall {record.name}",
            )
        key = f"conda archive {record.filename} md5 {record.md5}"
        stored = self.store.recall(key, progress=self.progress)
        if stored is None:
            stored = self._read_by_md5(record)
            self.store.remember(key, stored)
        return stored.digest

    def _read_by_md5(self, record: CondaRecord) -> StoredFile:
        for path in self._cached(record.filename):
            if file_hexdigest(path, "md5") == record.md5:
                return self.store.add_file(path, filename=record.filename)
        found = hashlib.md5(usedforsecurity=False)
        try:
            with (
                self.store.begin() as writer,
                open_source(record.url, access=self.access) as chunks,
                self.progress.task(f"Fetching {record.filename}", total=record.size, unit="bytes") as task,
            ):
                for chunk in chunks:
                    found.update(chunk)
                    writer.write(chunk)
                    task.advance(len(chunk))
                if found.hexdigest() != record.md5:
                    raise HashMismatch(
                        f"{record.filename} isn't the archive that was asked for: its MD5 is "
                        f"{found.hexdigest()}, not {record.md5}.",
                        hint="Whoever serves it replaced the file, or something on the way did. "
                        "Nothing was kept.",
                    )
                return self.store.commit(writer, filename=record.filename)
        except OSError as error:
            raise FetchError(
                f"The sha256 of {record.name} {record.version} isn't known, and its archive {record.url} "
                f"can't be read: {redact(str(error))}",
                hint="Check the network, or install (or lock) a version that the channel has: "
                f"conda install {record.name}",
            ) from error

    def _add_from_caches(self, artifact: Artifact) -> None:
        for path in self._cached(artifact.filename):
            try:
                self.store.add_file(path, filename=artifact.filename, expected=artifact.digest)
            except (HashMismatch, OSError):
                continue  # another build of the same name, or a truncated file
            return

    def _cached(self, filename: str) -> Iterable[Path]:
        return (path for cache in self.caches if (path := cache / filename).is_file())

    def _is_missing(self, artifact: Artifact) -> bool:
        paths = [local_path(url) for url in self.access.places(artifact.url)]
        return all(path is not None and not path.is_file() for path in paths)


def _download(artifact: Artifact) -> Download:
    return Download(artifact.url, artifact.digest, artifact.filename, artifact.size)


def _missing(artifact: Artifact) -> ArtifactGone:
    return ArtifactGone(f"{artifact.filename}: {artifact.url} isn't there")
