"""An image from a registry, a layout or an archive, resolved to one platform; its layers are read on demand.

What was read once is kept in a layout of the cache folder. An image that is named by its digest, and that was
resolved before, needs no request.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from imagesync.core.image_location import ImageLocation
from imagesync.core.image_reference import parse_reference
from imagesync.core.limits import SILENCE
from imagesync.core.platforms import is_platform
from imagesync.core.progress import Progress
from imagesync.core.text import counted
from imagesync.errors import BaseImageError, LayoutError, RegistryError
from imagesync.registry.archive import ImageArchive
from imagesync.registry.manifest import Descriptor, Index, parse_manifest
from imagesync.registry.oci_image import BlobSource, OCIImage, load_image, read_document
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.repository import Repository
from imagesync.registry.transfer import CountedBlobs, Stoppable, in_parallel


@dataclass(frozen=True)
class SourceImage:
    """An image, and where it is.

    Parameters
    ----------
    image
        Its layers are read from the layout that keeps them, or else from their source.
    reference
        The image by its digest: ``registry/repository@sha256:<hex>``; for a layout or an archive the
        location as it was written.
    digest
        What the name stands for: the digest of the image's index or manifest.
    repository
        Of a registry, with its host; empty for a layout and an archive.
    """

    image: OCIImage
    reference: str
    digest: str
    repository: str = ""

    def mounts(self, target: str) -> dict[str, str]:
        """Return where a push to the repository *target* can mount this image's layers from.

        Returns
        -------
        dict
            Repositories by the digests of layers; empty if the image is in another registry.
        """
        if not self.repository:
            return {}
        here, there = parse_reference(self.repository), parse_reference(target)
        if not here.is_beside(there):
            return {}
        return {layer.digest: here.path for layer in self.image.manifest.layers}


@contextmanager
def open_image(
    location: ImageLocation,
    *,
    platform: str,
    kept: ImageLayout,
    progress: Progress,
    insecure: bool = False,
    timeout: float = SILENCE,
    hint: str = "Name another image, or correct this one's name.",
) -> Iterator[SourceImage]:
    """Give an image of a registry, a layout or an archive, whose layers can be read inside the block.

    Parameters
    ----------
    platform
        The manifest to choose from an index.
    kept
        Keeps documents and layers that were read from a registry.
    progress
        Gets a line if a credential helper fails.
    insecure
        Whether the registry is accepted without TLS.
    timeout
        Seconds without a byte of the registry.
    hint
        What to do about an image that can't be had.

    Raises
    ------
    BaseImageError
        There is no such image, it isn't there for *platform*, or can't be used.
    """
    with ExitStack() as stack:
        try:
            if location.transport == "registry":
                repository = stack.enter_context(
                    Repository(location.path, progress=progress, insecure=insecure, timeout=timeout)
                )
                found = _from_registry(repository, platform, kept)
            elif location.transport == "oci":
                layout = ImageLayout(Path(location.path))
                found = _from_layout(layout, location, platform)
            else:
                archive = stack.enter_context(ImageArchive(Path(location.path)))
                found = _from_archive(archive, location, platform)
        except (RegistryError, LayoutError) as error:
            raise BaseImageError(error.message, hint=error.hint or hint) from error
        actual = found.image.config.platform
        if not is_platform(actual, platform):
            raise BaseImageError(f"{location} isn't there for {platform}, but for {actual}.", hint=hint)
        yield found


class LayoutSource(BlobSource, Protocol):
    """An OCI layout, in a folder or an archive."""

    def index(self) -> Index:
        """Return the layout's index."""

    def image(self, descriptor: Descriptor) -> OCIImage:
        """Return the image of a manifest in it."""


class KeptBlobs:
    """Blobs of a source that are kept in a cache's layout when they are read; for several threads."""

    def __init__(self, source: BlobSource, kept: ImageLayout) -> None:
        self._source = source
        self._kept = kept
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._verified: set[str] = set()

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the content of a blob, from the layout or else from the source."""
        with self._guard:
            lock = self._locks.setdefault(descriptor.digest, threading.Lock())
        with lock:
            # Before the first byte is given: a damaged blob is removed, and comes from the source again.
            if descriptor.digest not in self._verified and not self._kept.verify(descriptor):
                self._kept.copy(descriptor, self._source.read(descriptor))
            self._verified.add(descriptor.digest)
        yield from self._kept.read(descriptor)


def fetch_layers(image: OCIImage, layout: ImageLayout, *, progress: Progress) -> None:
    """Copy the layers of an image to a layout, in parallel."""
    missing = [layer for layer in dict.fromkeys(image.manifest.layers) if not layout.has(layer)]
    if not missing:
        return
    label = f"Fetching {counted(len(missing), 'layer')} of the image"
    with progress.task(label, total=sum(layer.size for layer in missing), unit="bytes") as task:
        blobs = Stoppable(CountedBlobs(image.layers, task.advance))

        def fetch(layer: Descriptor) -> None:
            layout.copy(layer, blobs.read(layer))

        in_parallel(fetch, sorted(missing, key=lambda layer: -layer.size), stop=blobs.stop)


def _from_registry(repository: Repository, platform: str, kept: ImageLayout) -> SourceImage:
    digest = repository.reference.digest or repository.head(repository.wanted)
    if digest is None:
        raise RegistryError(f"Its registry has no image {repository.text}.")
    pinned = f"{repository.name}@{digest}"
    # Documents are the same wherever an image is, and those of another platform have another name.
    name = f"{digest}+{platform}"
    entry = kept.index().find(name)
    image = None
    if entry is not None:
        try:
            image = load_image(entry, kept)
            kept.touch(entry)
        except (LayoutError, ValueError):
            # Pruned, or damaged: it is asked for again.
            image = None
    if image is None:
        found = Repository(pinned, connection=repository.connection).resolve(platform)
        if found is None:
            raise RegistryError(f"Its registry has no image {pinned}.")
        _, image = found
        config = (image.config_content, image.manifest.config.media_type)
        kept.put_manifest(image.content, image.descriptor, name=name, documents=[config])
    image = replace(image, layers=KeptBlobs(repository, kept))
    return SourceImage(image, pinned, digest, repository.name)


def _from_layout(source: LayoutSource, location: ImageLocation, platform: str) -> SourceImage:
    index = source.index()
    if not index.manifests:
        what = "has no images" if Path(location.path).exists() else "doesn't exist"
        raise LayoutError(f"The OCI layout {location.path} {what}.")
    entry = index.find(location.name)
    if entry is None:
        # An index of several manifests without names is that of one image.
        entry = index.for_platform(platform) if not location.name and not index.names else None
    if entry is None:
        names = ", ".join(index.names) or "none with a name"
        wanted = f"no image {location.name!r}" if location.name else "several images, or none"
        raise LayoutError(f"{location} has {wanted}; it has {names}.", hint="Name one: oci:FOLDER:NAME.")
    return resolve_entry(source, entry, location, platform)


def resolve_entry(
    source: LayoutSource, entry: Descriptor, location: ImageLocation | str, platform: str
) -> SourceImage:
    """Return the image that an entry of a layout stands for, or its index has for *platform*.

    Parameters
    ----------
    source
        The layout.
    location
        What the image is called, for messages.

    Raises
    ------
    LayoutError
        It isn't there for *platform*, or can't be used.
    """
    descriptor = entry
    for _ in range(2):
        try:
            document = parse_manifest(read_document(descriptor, source))
        except ValueError as error:
            raise LayoutError(f"{location} can't be used: {error}.") from error
        if not isinstance(document, Index):
            return SourceImage(source.image(descriptor), str(location), entry.digest)
        chosen = document.for_platform(platform)
        if chosen is None:
            others = ", ".join(document.platforms) or "no platform"
            raise LayoutError(f"{location} isn't there for {platform}, but for {others}.")
        descriptor = chosen
    raise LayoutError(f"{location} can't be used: it is an index of indexes.")


def _from_archive(archive: ImageArchive, location: ImageLocation, platform: str) -> SourceImage:
    if location.transport == "oci-archive":
        return _from_layout(archive, location, platform)
    entry = archive.docker_entry(location.name)
    if entry is not None:
        return resolve_entry(archive, entry, location, platform)
    image = archive.docker_image(location.name)
    # As an engine that loads the archive knows it.
    return SourceImage(image, str(location), archive.docker_image_id(location.name))
