"""Parts of layers: all entries of one package, compressed once and kept in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.image.layers.compression import Compression, blocks
from imagesync.image.layers.entries import Entry, FolderAttributes, tar_stream
from imagesync.store.layout import LAYERS

if TYPE_CHECKING:
    from imagesync.store.store import Store, StoredFile

FORMAT: Final = 3
"""Raised when the same package would give other entries, so that no older part is found for it."""


@dataclass(frozen=True)
class Part:
    """The compressed entries of one package.

    Parameters
    ----------
    name
        The package, for people.
    stored
        The compressed bytes, without an end of the archive.
    members
        The compressed and the uncompressed size of each gzip member or zstd frame.
    folders
        Its folders, and those above its files. They aren't in the part, because a layer may have each path
        only once: tar-split, by which Docker and Podman keep layers, refuses a second entry.
    inputs
        As of :class:`PartRequest`.
    """

    name: str
    stored: StoredFile
    members: tuple[tuple[int, int], ...]
    folders: Mapping[str, FolderAttributes]
    inputs: str = ""


@dataclass(frozen=True)
class PartRequest:
    """A part that is wanted, and how it's made if the store lacks it.

    Parameters
    ----------
    name
        The package, for people.
    key
        What its bytes depend on, besides the compression.
    entries
        Returns the entries in their order, parent directories included.
    inputs
        A digest of what the part follows from, for caches that know it before the archive is here; empty if
        there is none.
    known
        Returns the part, which another build has made of *inputs*: the archive isn't here.
    """

    name: str
    key: tuple[str, ...]
    entries: Callable[[], Iterable[Entry]]
    inputs: str = ""
    known: Callable[[str], Part] | None = None


def part_inputs(source: str, excluded: frozenset[str]) -> str:
    """Return a digest of what a part follows from; empty if *source* is."""
    if not source:
        return ""
    return hashlib.sha256("\0".join((source, *sorted(excluded))).encode()).hexdigest()


class PartStore:
    """The parts in a store, compressed in one way.

    Parameters
    ----------
    store
        Keeps the compressed bytes.
    compression
        Compresses them.
    """

    def __init__(self, store: Store, compression: Compression) -> None:
        self._store = store
        self.compression = compression

    def get(self, request: PartRequest) -> Part:
        """Return a part, made now or from the store: whoever reads its bytes has to verify them.

        Raises
        ------
        RenderError, WheelError
            The package's archive can't become a part.
        StoreError
            The store can't be written.
        """
        if request.known is not None:
            return request.known(request.inputs)
        key = ["part", FORMAT, self.compression.identity, *request.key]
        path = cache_path(self._store.root / LAYERS, key)
        known = read_cache(path, key=key)
        if known is not None:
            members = tuple((size, plain) for size, plain in known["members"])
            stored = self._store.find(
                known["digest"], filename=request.name, size=sum(size for size, _ in members)
            )
            if stored is not None:
                folders = {path: FolderAttributes(*values) for path, values in known["folders"].items()}
                return Part(request.name, stored, members, folders, request.inputs)
        part = self._make(request)
        content = {
            "digest": part.stored.digest,
            "members": part.members,
            "folders": {path: astuple(part.folders[path]) for path in sorted(part.folders)},
        }
        write_cache(path, content, key=key)
        return part

    def _make(self, request: PartRequest) -> Part:
        members = []
        folders: dict[str, FolderAttributes] = {}
        with self._store.begin() as writer:
            for block in blocks(tar_stream(_without_folders(request.entries(), folders))):
                member = self.compression.compress(block)
                writer.write(member)
                members.append((len(member), len(block)))
            stored = self._store.commit(writer, filename=request.name)
        return Part(request.name, stored, tuple(members), folders, request.inputs)


def _without_folders(entries: Iterable[Entry], folders: dict[str, FolderAttributes]) -> Iterator[Entry]:
    """Yield the entries without folders, which are added to *folders* with those above all entries."""
    for entry in entries:
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in folders:
            folders[parent] = FolderAttributes()
            parent = parent.rpartition("/")[0]
        if entry.kind == "directory":
            folders[entry.path] = FolderAttributes(entry.mode, entry.uid, entry.gid)
        else:
            yield entry
