"""The base image of a build without an engine: from a registry, a layout, an archive, or an engine's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.image_location import ImageLocation
from imagesync.core.limits import SILENCE
from imagesync.core.platforms import Platform
from imagesync.engine.lookup import inspect_image, root_digest
from imagesync.errors import BaseImageError, LayoutError
from imagesync.image.layers.base_contents import read_base
from imagesync.image.layers.compression import Gzip, blocks
from imagesync.registry.archive import ImageArchive
from imagesync.registry.image_source import SourceImage, open_image
from imagesync.registry.manifest import LAYER, Descriptor
from imagesync.registry.oci_image import BlobSource, OCIImage, compose_image
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.transfer import CountedBlobs
from imagesync.store.layout import IMAGES, LAYERS, store_errors
from imagesync.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.core.progress import Progress
    from imagesync.engine.endpoint import Endpoint

_FORMAT: Final = 1


@contextmanager
def open_base(
    location: ImageLocation,
    *,
    platform: Platform,
    cache: Path,
    progress: Progress,
    find_endpoint: Callable[[], Endpoint],
    timeout: float = SILENCE,
) -> Iterator[SourceImage]:
    """Give the base image, whose layers can be read inside the block.

    Layers that aren't compressed, as those that an engine saves, are compressed once: the same layer always
    becomes the same blob. The contents of such an image are read before, and remembered.

    Parameters
    ----------
    platform
        That of the image.
    cache
        The cache folder: its layout keeps what was read from a registry or an engine.
    find_endpoint
        Returns the endpoint of the engine, for ``docker-daemon:``.
    timeout
        Seconds without a byte of the registry.

    Raises
    ------
    BaseImageError
        There is no such image for the images' platform, or it can't be used.
    """
    kept = ImageLayout(cache / IMAGES, is_cache=True)
    if location.transport == "docker-daemon":
        yield _from_engine(location, find_endpoint(), kept, platform=platform, cache=cache, progress=progress)
        return
    with open_image(
        location,
        platform=platform.name,
        kept=kept,
        progress=progress,
        timeout=timeout,
        hint="Name another image with --base, or correct this one's name.",
    ) as found:
        image = _compressed(found.image, kept, cache, progress)
        yield replace(found, image=image)


def _from_engine(
    location: ImageLocation,
    endpoint: Endpoint,
    kept: ImageLayout,
    *,
    platform: Platform,
    cache: Path,
    progress: Progress,
) -> SourceImage:
    held = inspect_image(endpoint, location.path)
    if held is None:
        raise BaseImageError(
            f"The engine has no image {location.path}.",
            hint="Name one of `docker images`, or leave docker-daemon: away to take it from its registry.",
        )
    if not platform.is_platform_of(held.platform):
        raise BaseImageError(
            f"The base image {location} is for {held.platform}, and the image is made for {platform}."
        )
    name = f"docker-daemon {held.image_id}"
    try:
        entry = kept.index().find(name)
        image = None if entry is None else kept.image(entry)
        if entry is not None:
            kept.touch(entry)
    except LayoutError:
        # Pruned in part: it is saved again.
        image = None
    if image is None or not all(map(kept.has, image.manifest.layers)):
        with Store(cache).partial_file() as path:
            _save(endpoint, location.path, path, size=held.size, progress=progress)
            try:
                with ImageArchive(path) as archive:
                    image = _compressed(archive.docker_image(), kept, cache, progress)
                    kept.put(image, name=name)
            except LayoutError as error:
                raise BaseImageError(
                    f"What the engine saved of {location.path} can't be used: {error.message}"
                ) from error
    digest = root_digest(held.image_id, held.digests, location.path)
    return SourceImage(replace(image, layers=kept), str(location), digest)


def _save(endpoint: Endpoint, reference: str, path: Path, *, size: int, progress: Progress) -> None:
    from imagesync.engine.engine import Engine

    with (
        Engine(endpoint) as engine,
        progress.task(f"Saving {reference}", total=size, unit="bytes") as task,
        path.open("wb") as file,
    ):
        for chunk in engine.save(reference):
            with store_errors(path.parent):
                file.write(chunk)
            task.advance(len(chunk))


def _compressed(image: OCIImage, kept: ImageLayout, cache: Path, progress: Progress) -> OCIImage:
    """Return the image with each of its layers compressed."""
    plain = [layer for layer in image.manifest.layers if layer.media_type == LAYER]
    if not plain:
        return image
    compressed: dict[str, Descriptor] = {}
    total = sum(layer.size for layer in plain)
    with progress.task("Compressing the base image", total=total, unit="bytes") as task:
        layers = CountedBlobs(image.layers, task.advance)
        for layer in dict.fromkeys(plain):
            compressed[layer.digest] = _compress(layers, layer, kept, cache)
    found = [compressed.get(layer.digest, layer) for layer in image.manifest.layers]
    made = compose_image(image.config, found, _Either(kept, image), annotations=image.manifest.annotations)
    # Here nothing has to be uncompressed for it.
    read_base(image, digest=made.digest, cache=cache, progress=progress)
    return made


def _compress(layers: BlobSource, layer: Descriptor, kept: ImageLayout, cache: Path) -> Descriptor:
    compression = Gzip()
    path = cache_path(cache / LAYERS, "compressed layer", layer.digest, compression.identity)
    known = read_cache(path, key=_FORMAT)
    if known is not None:
        found = Descriptor(compression.media_type, known["digest"], known["size"])
        if kept.has(found):
            return found
    found = kept.add_chunks(map(compression.compress, blocks(layers.read(layer))), compression.media_type)
    write_cache(path, {"digest": found.digest, "size": found.size}, key=_FORMAT)
    return found


class _Either:
    """Layers of a layout, or else of an image."""

    def __init__(self, kept: ImageLayout, image: OCIImage) -> None:
        self._kept = kept
        self._image = image

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        source = self._kept if self._kept.has(descriptor) else self._image.layers
        yield from source.read(descriptor)
