"""Layers: the folders of all parts, the parts one after the other, and the end of the archive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.worker_pool import WorkerPool
from imagesync.errors import StoreError
from imagesync.image.layers.compression import blocks
from imagesync.image.layers.entries import END, FolderAttributes, directory_entry, tar_header
from imagesync.image.layers.parts import Part
from imagesync.registry.manifest import Descriptor
from imagesync.store.layout import LAYERS

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.image.layers.compression import Compression
    from imagesync.store.store import Store


@dataclass(frozen=True)
class Layer:
    """A layer of an image.

    Parameters
    ----------
    comment
        Its packages, for the image's history.
    blob
        The compressed archive.
    diff_id
        ``sha256:<hex>`` of the uncompressed archive (OCI image specification, "Layer DiffID").
    path
        Of the compressed archive in the store; ``None`` if it is in a registry.
    contents
        The compressed size of each of its packages, in bytes by name.
    parts
        Its packages, if it was written here.
    inputs
        A digest of what it follows from, for caches that know it before its archives are here; empty if there
        is none.
    is_new
        Whether it was written now: what the store has had is verified by whoever reads it.
    """

    comment: str
    blob: Descriptor
    diff_id: str
    path: Path | None = None
    contents: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    inputs: str = ""
    is_new: bool = False


def write_layers(
    groups: Sequence[tuple[str, Sequence[Part]]],
    *,
    below: Mapping[str, FolderAttributes],
    store: Store,
    compression: Compression,
    workers: int,
) -> tuple[Layer, ...]:
    """Return a layer for each of *groups*, from the store or written now.

    Parameters
    ----------
    groups
        The name of each layer and its parts in their order.
    below
        The folders of the base. Each layer has all folders above its files, because Docker makes a missing
        one anew, and has it as it is in the base, or in the part that gives it another owner or mode.
    store
        Keeps the layers.
    compression
        Of all parts.
    workers
        The most layers that are written at once.

    Raises
    ------
    StoreError
        The store can't be written, or a part in it is damaged.
    """
    usual = FolderAttributes()
    unusual = unusual_folders(part for _, parts in groups for part in parts)
    with WorkerPool(workers, thread_name_prefix="layers") as pool:

        def write(group: tuple[str, Sequence[Part]]) -> Layer:
            name, parts = group
            paths = sorted({path for part in parts for path in part.folders})
            folders = {path: unusual.get(path) or below.get(path, usual) for path in paths}
            return _layer(name, parts, folders, store, compression)

        # The largest first, so that no worker has a long task at the end.
        order = sorted(
            range(len(groups)), key=lambda index: -sum(part.stored.size for part in groups[index][1])
        )
        futures = {index: pool.submit(write, groups[index]) for index in order}
        return tuple(futures[index].result() for index in range(len(groups)))


def unusual_folders(parts: Iterable[Part]) -> dict[str, FolderAttributes]:
    """Return the folders of *parts* that have another owner or mode than the usual ones."""
    usual = FolderAttributes()
    return {
        path: attributes for part in parts for path, attributes in part.folders.items() if attributes != usual
    }


def layer_inputs(
    parts: Sequence[str], folders: Mapping[str, FolderAttributes], compression: Compression
) -> str:
    """Return a digest of what a layer follows from; empty if that of one of its parts isn't known.

    Parameters
    ----------
    parts
        The digests of what its parts follow from, in their order.
    folders
        Those that may be in it with another owner or mode than the usual ones.
    compression
        Of all parts.
    """
    if not all(parts):
        return ""
    listed = [[path, *astuple(attributes)] for path, attributes in sorted(folders.items())]
    text = json.dumps([compression.identity, listed, list(parts)])
    return hashlib.sha256(text.encode()).hexdigest()


def layer_comment(name: str, packages: Sequence[str]) -> str:
    """Return the comment of a layer of that name with *packages*."""
    return f"{name}: {', '.join(packages)}" if name else ", ".join(packages)


def _layer(
    name: str,
    parts: Sequence[Part],
    folders: Mapping[str, FolderAttributes],
    store: Store,
    compression: Compression,
) -> Layer:
    comment = layer_comment(name, [part.name for part in parts])
    contents = {part.name: part.stored.size for part in parts if part.name}
    listed = [[path, *astuple(attributes)] for path, attributes in folders.items()]
    key = ["layer", compression.identity, listed, *(part.stored.digest for part in parts)]
    path = cache_path(store.root / LAYERS, key)
    known: dict[str, Any] | None = read_cache(path, key=key)
    # Whoever reads it verifies it: one that an image has already isn't read at all.
    stored = None if known is None else store.find(known["digest"], filename=comment, size=known["size"])
    if known is not None and stored is not None:
        blob = Descriptor(compression.media_type, stored.digest, stored.size)
        return Layer(comment, blob, known["diff_id"], stored.path, contents, tuple(parts))
    content = hashlib.sha256()
    with store.begin() as writer:
        for block in blocks(
            tar_header(directory_entry(path, mode=each.mode, uid=each.uid, gid=each.gid))
            for path, each in folders.items()
        ):
            writer.write(compression.compress(block))
            content.update(block)
        for part in parts:
            for member, plain in _members(part, compression):
                writer.write(member)
                content.update(plain)
        writer.write(compression.compress(END))
        content.update(END)
        stored = store.commit(writer, filename=comment)
    diff_id = f"sha256:{content.hexdigest()}"
    write_cache(path, {"digest": stored.digest, "size": stored.size, "diff_id": diff_id}, key=key)
    blob = Descriptor(compression.media_type, stored.digest, stored.size)
    return Layer(comment, blob, diff_id, stored.path, contents, tuple(parts), is_new=True)


def _members(part: Part, compression: Compression) -> Iterator[tuple[bytes, bytes]]:
    """Yield the members of a part, each with its content; an error if the part isn't what its digest says."""
    found = hashlib.sha256()
    with part.stored.path.open("rb") as file:
        for size, plain in part.members:
            member = file.read(size)
            found.update(member)
            try:
                yield member, compression.decompress(member, plain)
            except ValueError as error:
                raise _damaged(part, str(error)) from error
    if (digest := f"sha256:{found.hexdigest()}") != part.stored.digest:
        raise _damaged(part, f"its digest is {digest}")


def _damaged(part: Part, reason: str) -> StoreError:
    """Return the error for a damaged part, which is removed."""
    part.stored.path.unlink(missing_ok=True)
    return StoreError(
        f"The part of {part.name} in the artifact store is damaged: {reason}",
        hint="It was removed: run the command again, which makes it anew.",
    )
