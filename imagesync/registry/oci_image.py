"""An image as its manifest, its configuration, and a source of its layers' bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imagesync.errors import ImagesyncError
from imagesync.registry.config import ImageConfig, parse_config
from imagesync.registry.manifest import (
    CONFIG,
    MANIFEST,
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    check_layers,
    parse_manifest,
)


class BlobSource(Protocol):
    """Where the layers of an image are read: a layout, an archive, a registry, or what writes them."""

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the content of a blob in chunks; an error at its end if it isn't what *descriptor* says."""


@dataclass(frozen=True)
class OCIImage:
    """An image for one platform, with its documents as they are stored and as they are read.

    Parameters
    ----------
    descriptor
        Of the manifest.
    content
        The manifest's bytes.
    config_content
        The configuration's bytes.
    manifest, config
        What these say. The layers of *manifest* have OCI media types.
    layers
        Where the layers are read.
    """

    descriptor: Descriptor
    content: bytes = field(repr=False)
    config_content: bytes = field(repr=False)
    manifest: Manifest
    config: ImageConfig = field(repr=False)
    layers: BlobSource = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        """Return the digest of the manifest, ``sha256:<hex>``."""
        return self.descriptor.digest

    @property
    def size(self) -> int:
        """Return the size of all layers as they are stored, in bytes."""
        return sum(layer.size for layer in self.manifest.layers)


def compose_image(
    config: ImageConfig,
    layers: Sequence[Descriptor],
    blobs: BlobSource,
    *,
    annotations: Mapping[str, str] | None = None,
) -> OCIImage:
    """Return the image of a configuration and layers: the same bytes for the same values.

    Parameters
    ----------
    config
        Has a diff ID for each of *layers*.
    layers
        From the base up; Docker's media types become those of OCI.
    blobs
        Where *layers* are read.
    annotations
        Of the manifest.
    """
    config_content = config.to_json()
    manifest = Manifest(
        Descriptor.of(config_content, CONFIG), tuple(layer.as_oci() for layer in layers), annotations or {}
    )
    content = manifest.to_json()
    descriptor = Descriptor.of(content, MANIFEST, platform=config.platform)
    return read_image(descriptor, content, config_content, blobs)


def load_image(descriptor: Descriptor, blobs: BlobSource) -> OCIImage:
    """Return the image of a manifest that lies among *blobs*, as its configuration does.

    Raises
    ------
    ValueError
        It isn't an image that imagesync can use; the reason follows "can't be used".
    """
    content = read_document(descriptor, blobs, MAX_MANIFEST)
    manifest = parse_manifest(content)
    if isinstance(manifest, Index):
        raise ValueError("it is an index, not a manifest")  # noqa: TRY004  callers handle one error
    check_layers(manifest.layers)
    return read_image(descriptor, content, read_document(manifest.config, blobs, MAX_CONFIG), blobs)


def read_image(descriptor: Descriptor, content: bytes, config_content: bytes, layers: BlobSource) -> OCIImage:
    """Return the image whose documents are given, checked.

    Parameters
    ----------
    descriptor
        Of the manifest.
    content, config_content
        Of manifest and configuration, verified against their digests already.
    layers
        Where its layers are read.

    Raises
    ------
    ValueError
        They aren't those of an image that imagesync can use; the reason follows "can't be used".
    """
    manifest = parse_manifest(content)
    if isinstance(manifest, Index):
        raise ValueError("it is an index, not a manifest")  # noqa: TRY004  callers handle one error
    check_layers(manifest.layers)
    config = parse_config(config_content)
    described, listed = len(config.diff_ids), len(manifest.layers)
    if described != listed:
        raise ValueError(f"its configuration describes {described} layers, and its manifest {listed}")
    manifest = replace(manifest, layers=tuple(layer.as_oci() for layer in manifest.layers))
    # Annotations of an index, such as a name, are the index's.
    descriptor = replace(descriptor, annotations={}, platform=config.platform)
    return OCIImage(descriptor, content, config_content, manifest, config, layers)


def read_document(descriptor: Descriptor, blobs: BlobSource, limit: int = MAX_MANIFEST) -> bytes:
    """Return the content of a small blob, such as a manifest.

    Raises
    ------
    ValueError
        It has more than *limit* bytes.
    """
    if descriptor.size > limit:
        raise ValueError(f"{descriptor.digest} has {descriptor.size} bytes, and may have {limit}")
    return b"".join(blobs.read(descriptor))


def verified(chunks: Iterable[bytes], descriptor: Descriptor, error: type[ImagesyncError]) -> Iterator[bytes]:
    """Yield *chunks*, and raise *error* if they aren't the blob that *descriptor* describes.

    Never more bytes than the descriptor says.
    """
    found, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > descriptor.size:
            raise error(f"The blob {descriptor.digest} has more than the {descriptor.size} bytes it should.")
        found.update(chunk)
        yield chunk
    if size != descriptor.size:
        raise error(f"The blob {descriptor.digest} is truncated: it has {size} of {descriptor.size} bytes.")
    if f"sha256:{found.hexdigest()}" != descriptor.digest:
        raise error(f"The blob {descriptor.digest} is damaged: its digest is sha256:{found.hexdigest()}.")
