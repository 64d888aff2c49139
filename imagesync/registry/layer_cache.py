"""What a repository knows of layers and their parts, as an artifact beside its images (``cache-from``).

Each entry says by a key, such as the digest of a layer's inputs, which blob has the result: a whole blob, or
a range of one. A build that finds its key mounts the blob, and needn't make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imagesync.core.progress import Progress
from imagesync.errors import RegistryError
from imagesync.registry.artifacts import compose_artifact, push_artifact, read_artifact
from imagesync.registry.manifest import Descriptor, canonical_json, parse_descriptor, parse_json
from imagesync.registry.repository import Repository

CACHE_TAG: Final = "imagesync-cache"
_TYPE: Final = "application/vnd.dev.imagesync.layer-cache.v1+json"
_VERSION: Final = 1
# Registries limit the size of a manifest, which lists each blob, to 4 MiB: about 20,000 of them.
_MOST_BLOBS: Final = 2000
_MOST_ENTRIES: Final = 20_000


@dataclass(frozen=True)
class CacheEntry:
    """The result of some inputs, in a blob of the repository.

    Parameters
    ----------
    blob
        The descriptor of the layer, or of another document.
    start, size
        The range of the blob that has the result, in bytes; the whole blob if *size* is 0.
    properties
        What else is known of the result, such as its diff ID: texts and numbers by name.
    """

    blob: Descriptor
    start: int = 0
    size: int = 0
    properties: Mapping[str, str | int] = field(default_factory=dict, hash=False)


def read_layer_cache(repository: Repository) -> dict[str, CacheEntry]:
    """Return the entries of a repository's cache by their keys; none where there is no cache.

    A cache in another format, or a damaged one, has no entries either: builds go on without it.

    Raises
    ------
    RegistryError
        The registry refuses or doesn't answer.
    """
    found = read_artifact(repository, CACHE_TAG)
    if found is None or found.manifest.artifact_type != _TYPE:
        return {}
    try:
        return dict(_parsed(parse_json(found.document)))
    except ValueError:
        return {}


def push_layer_cache(
    entries: Mapping[str, CacheEntry], repository: Repository, *, progress: Progress
) -> None:
    """Add entries to a repository's cache; the oldest go when there are too many.

    The blobs must be in the repository already. Where two builds push at once one's entries may be lost, and
    are made again.

    Raises
    ------
    RegistryError
        The registry refuses.
    """
    known = read_layer_cache(repository)
    if all(known.get(key) == entry for key, entry in entries.items()):
        return
    older = {key: entry for key, entry in known.items() if key not in entries}
    kept = _limited({**entries, **older})
    blobs = list(dict.fromkeys(_bare(entry.blob) for entry in kept.values()))
    try:
        _push(kept, blobs, repository, progress)
    except RegistryError:
        # The registry has removed a blob of an old image.
        present = {blob for blob in blobs if repository.has_blob(blob)}
        kept = {key: entry for key, entry in kept.items() if _bare(entry.blob) in present}
        _push(kept, [blob for blob in blobs if blob in present], repository, progress)


def _push(
    entries: Mapping[str, CacheEntry], blobs: list[Descriptor], repository: Repository, progress: Progress
) -> None:
    numbers = {blob.digest: number for number, blob in enumerate(blobs)}
    document = {
        "version": _VERSION,
        "blobs": [blob.to_dict() for blob in blobs],
        # A list, because the newest come first.
        "entries": [
            [key, numbers[entry.blob.digest], entry.start, entry.size, dict(entry.properties)]
            for key, entry in entries.items()
        ],
    }
    artifact = compose_artifact(canonical_json(document), _TYPE, also=blobs)
    push_artifact(artifact, repository, tag=CACHE_TAG, progress=progress)


def _limited(entries: Mapping[str, CacheEntry]) -> dict[str, CacheEntry]:
    kept: dict[str, CacheEntry] = {}
    blobs: set[str] = set()
    for key, entry in entries.items():
        if len(kept) == _MOST_ENTRIES:
            break
        if entry.blob.digest in blobs or len(blobs) < _MOST_BLOBS:
            blobs.add(entry.blob.digest)
            kept[key] = entry
    return kept


def _bare(blob: Descriptor) -> Descriptor:
    return Descriptor(blob.media_type, blob.digest, blob.size)


def _parsed(document: Mapping[str, Any]) -> Iterator[tuple[str, CacheEntry]]:
    if document.get("version") != _VERSION:
        return
    try:
        blobs = [parse_descriptor(blob, "blobs") for blob in document["blobs"]]
        for key, number, start, size, properties in document["entries"]:
            blob = blobs[number]
            if not isinstance(key, str) or not _is_range(start, size, blob.size):
                raise ValueError("an entry is wrong")
            yield key, CacheEntry(blob, start, size, _properties(properties.items()))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("it is malformed") from error


def _is_range(start: object, size: object, whole: int) -> bool:
    if not isinstance(start, int) or not isinstance(size, int):
        return False
    return start >= 0 and size >= 0 and start + size <= whole


def _properties(pairs: Iterable[tuple[Any, Any]]) -> dict[str, str | int]:
    found = dict(pairs)
    if not all(isinstance(key, str) and isinstance(value, (str, int)) for key, value in found.items()):
        raise ValueError("a property is wrong")
    return found
