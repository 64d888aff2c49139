"""The setting ``cache-from``: parts and layers that others have pushed, found before anything is fetched.

A repository's cache has three kinds of entries, each under a digest of what it follows from: the files of a
wheel or a conda package, its part as a range of a layer, and a layer. A build whose packages are all known
mounts their layers, and fetches and compiles none of them. The contents of base images are in it, too.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from imagesync.core.image_reference import parse_reference
from imagesync.core.limits import inflate
from imagesync.core.progress import Severity, SilentProgress
from imagesync.errors import RegistryError
from imagesync.image.layers.base_contents import base_key, recall_base, remember_base
from imagesync.image.layers.entries import END
from imagesync.image.layers.layer import Layer
from imagesync.pipeline.package_facts import (
    conda_facts,
    known_conda,
    known_part,
    known_wheel,
    part_facts,
    wheel_facts,
)
from imagesync.registry.layer_cache import CacheEntry, push_layer_cache, read_layer_cache
from imagesync.registry.manifest import Descriptor, canonical_json, is_digest, parse_json
from imagesync.registry.oci_image import read_document
from imagesync.registry.upload import upload

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.core.progress import Progress
    from imagesync.image.layers.compression import Compression
    from imagesync.image.layers.conda_parts import CondaPart, KnownConda
    from imagesync.image.layers.parts import Part
    from imagesync.image.layers.wheel_parts import KnownWheel, WheelPart
    from imagesync.lock.conda.archive_files import ArchiveFiles
    from imagesync.lock.locked_packages import LockedConda, LockedPackage
    from imagesync.pipeline.package_facts import MakePart, PartSources
    from imagesync.registry.repository import Repository
    from imagesync.store.store import Store

_DOCUMENT: Final = "application/vnd.dev.imagesync.layer-contents.v1+gzip"
_MOST_CONTENT: Final = 64 << 20
"""Of an uncompressed document, in bytes: the files of 100 large wheels have 10 MB."""
_MOST_PACKAGES: Final = 20
"""Conda packages in one document."""


@dataclass
class CachedLayers:
    """The cache of one repository, for one build.

    Parameters
    ----------
    repository
        Has the layers, and the list of them.
    store
        Keeps parts that are read.
    compression
        Of the layers.
    entries
        The list, by the digests of what each entry follows from.
    """

    repository: Repository
    store: Store
    compression: Compression
    entries: Mapping[str, CacheEntry]
    _documents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _new: dict[str, CacheEntry] = field(default_factory=dict)
    _contents: list[bytes] = field(default_factory=list)

    @property
    def blobs(self) -> set[str]:
        """Return the digests of the layers that the repository has."""
        return {entry.blob.digest for entry in self.entries.values()}

    def is_in(self, repository: str) -> bool:
        """Return True if it is the cache of *repository*."""
        return parse_reference(repository).name == self.repository.reference.name

    def mounts(self, repository: str) -> dict[str, str]:
        """Return where a push to *repository* can mount the layers from, by their digests."""
        here, there = self.repository.reference, parse_reference(repository)
        return dict.fromkeys(self.blobs, here.path) if here.is_beside(there) else {}

    def wheel(self, package: LockedPackage, sources: PartSources, make: MakePart) -> KnownWheel | None:
        """Return the wheel of a locked package if its files are known, or ``None``.

        *make* returns the part that follows from certain inputs.
        """
        source = sources.digest(package.artifact.digest)
        return known_wheel(self._facts("wheel", source), package, source, sources.minor, make)

    def conda(self, package: LockedConda, sources: PartSources, make: MakePart) -> KnownConda | None:
        """Return a locked conda package as :meth:`wheel` does a wheel."""
        source = sources.digest(package.artifact.digest)
        return known_conda(self._facts("conda", source), package, self.store, make)

    def has_part(self, inputs: str) -> bool:
        """Return True if the part that follows from *inputs* is known."""
        return self._range(inputs) is not None

    def part(self, inputs: str) -> Part:
        """Return the part that follows from *inputs*, read from the layer that has it.

        Raises
        ------
        RegistryError
            The registry has something else there, or doesn't answer.
        """
        found = self._range(inputs)
        assert found is not None  # noqa: S101  has_part() has said so
        whole, start, described, part = found
        stored = self.store.open(described.digest, filename=part.name)
        if stored is None:
            chunks = self.repository.read_range(whole, start, described)
            stored = self.store.add(chunks, filename=part.name)
        return replace(part, stored=stored)

    def layer(self, inputs: str, comment: str) -> Layer | None:
        """Return the layer that follows from *inputs*, or ``None`` if none is known."""
        entry = self.entries.get(f"layer {inputs}")
        if entry is None:
            return None
        try:
            diff_id = str(entry.properties["diff-id"])
            contents = parse_json(str(entry.properties["contents"]).encode())
        except (LookupError, ValueError):
            return None
        if not is_digest(diff_id) or not all(isinstance(size, int) for size in contents.values()):
            return None
        return Layer(comment, entry.blob, diff_id, contents=contents, inputs=inputs)

    def recall_base(self, digest: str, cache: Path) -> None:
        """Remember the contents of a base image in the cache folder, if they are known and aren't there."""
        if recall_base(digest, cache) is None and (known := self._document(base_key(digest))):
            remember_base(digest, known["base"], cache)

    def add(
        self,
        layers: Iterable[Layer],
        wheels: Iterable[WheelPart | KnownWheel],
        *,
        base: str,
        cache: Path,
        conda: Iterable[tuple[CondaPart, ArchiveFiles]] = (),
    ) -> None:
        """Add what a build has made to the entries that :meth:`push` pushes.

        Parameters
        ----------
        layers
            All layers of the environment.
        wheels
            The wheels in them.
        base
            The digest of the base image.
        cache
            The cache folder, which remembers the contents of the base image.
        conda
            The conda packages in them.
        """
        made = [layer for layer in layers if layer.inputs and f"layer {layer.inputs}" not in self.entries]
        parts = {part.inputs: part for layer in made for part in layer.parts}
        sources = {
            part.source: part for part in wheels if part.source and f"wheel {part.source}" not in self.entries
        }
        document: dict[str, Any] = {
            "parts": {inputs: part_facts(part) for inputs, part in parts.items()},
            "wheels": {source: wheel_facts(part) for source, part in sources.items()},
        }
        keys = [f"wheel {source}" for source in sources]
        if base_key(base) not in self.entries:
            document["base"] = recall_base(base, cache)
            keys.append(base_key(base))
        self._contents, self._new = [], {}
        if made or keys:
            listed = self._list(document, keys)
            for layer in made:
                self._new |= self._entries_of(layer, listed)
        packages = [
            (part, files)
            for part, files in conda
            if part.source and f"conda {part.source}" not in self.entries
        ]
        for start in range(0, len(packages), _MOST_PACKAGES):
            facts = {
                part.source: conda_facts(part, files)
                for part, files in packages[start : start + _MOST_PACKAGES]
            }
            self._list({"conda": facts}, [f"conda {source}" for source in facts])

    def _list(self, document: Mapping[str, Any], keys: Iterable[str]) -> Descriptor:
        """Add a document with the entries *keys* to what is pushed, and return its descriptor."""
        content = gzip.compress(canonical_json(document), 6, mtime=0)
        listed = Descriptor.of(content, _DOCUMENT)
        self._contents.append(content)
        self._new |= {key: CacheEntry(listed) for key in (f"contents {listed.digest}", *keys)}
        return listed

    def push(self, *, progress: Progress) -> None:
        """Push what :meth:`add` was given, once its layers are in the repository; a failure is a warning."""
        if not self._new:
            return
        total = sum(map(len, self._contents))
        try:
            with progress.task("Pushing the layer cache", total=total, unit="bytes") as task:
                for content in self._contents:
                    upload(self.repository, Descriptor.of(content, _DOCUMENT), _Bytes(content), task)
            push_layer_cache(self._new, self.repository, progress=SilentProgress())
        except RegistryError as error:
            progress.line(f"{error.message} The next build finds none of these layers.", Severity.WARNING)
        self._new = {}

    def _entries_of(self, layer: Layer, listed: Descriptor) -> dict[str, CacheEntry]:
        contents = json.dumps(dict(layer.contents), sort_keys=True)
        found = {
            f"layer {layer.inputs}": CacheEntry(
                layer.blob, properties={"diff-id": layer.diff_id, "contents": contents}
            )
        }
        # Folders come before the parts, and the end of the archive after them.
        start = layer.blob.size - len(self.compression.compress(END))
        start -= sum(part.stored.size for part in layer.parts)
        for part in layer.parts:
            properties = {"digest": part.stored.digest, "listed": listed.digest}
            found[f"part {part.inputs}"] = CacheEntry(layer.blob, start, part.stored.size, properties)
            start += part.stored.size
        return found

    def _range(self, inputs: str) -> tuple[Descriptor, int, Descriptor, Part] | None:
        """Return the layer that has a part, where that begins, its descriptor, and what is known of it."""
        entry = self.entries.get(f"part {inputs}")
        if entry is None:
            return None
        try:
            facts = self._document(f"contents {entry.properties['listed']}")["parts"][inputs]
            digest = str(entry.properties["digest"])
        except (LookupError, TypeError):
            return None
        part = known_part(facts, inputs, digest, self.store) if is_digest(digest) else None
        if part is None or part.stored.size != entry.size:
            return None
        return entry.blob, entry.start, Descriptor(entry.blob.media_type, digest, entry.size), part

    def _facts(self, kind: Literal["wheel", "conda"], source: str) -> Mapping[str, Any]:
        """Return the remembered facts of a package; empty if there are none."""
        section = self._document(f"{kind} {source}").get("wheels" if kind == "wheel" else kind)
        facts = section.get(source) if isinstance(section, dict) else None
        return facts if isinstance(facts, dict) else {}

    def _document(self, key: str) -> Mapping[str, Any]:
        """Return the document of an entry; empty if it can't be had, or is malformed."""
        entry = self.entries.get(key)
        if entry is None:
            return {}
        if entry.blob.digest not in self._documents:
            self._documents[entry.blob.digest] = _read(entry.blob, self.repository)
        return self._documents[entry.blob.digest]


def open_cached_layers(
    repository: Repository, store: Store, compression: Compression, *, progress: Progress
) -> CachedLayers:
    """Return the cache of a repository; empty, with a warning, if the registry doesn't give it."""
    entries: Mapping[str, CacheEntry] = {}
    try:
        entries = read_layer_cache(repository)
    except RegistryError as error:
        progress.line(f"{error.message} Building without cache-from.", Severity.WARNING)
    return CachedLayers(repository, store, compression, entries)


def _read(blob: Descriptor, repository: Repository) -> dict[str, Any]:
    try:
        return parse_json(inflate(read_document(blob, repository), most=_MOST_CONTENT, wbits=31))
    except (RegistryError, ValueError, zlib.error):
        return {}


class _Bytes:
    """One blob."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        del descriptor
        yield self._content
