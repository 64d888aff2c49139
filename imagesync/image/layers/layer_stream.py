"""The archive of a layer as a stream, uncompressed while it's read."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from imagesync.registry.manifest import LAYER_GZIP, LAYER_ZSTD

if TYPE_CHECKING:
    from imagesync.registry.manifest import Descriptor
    from imagesync.registry.oci_image import OCIImage


class _Chunks(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  a writable buffer
        while not self._rest:
            piece = next(self._chunks, None)
            if piece is None:
                return 0
            self._rest = piece
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def uncompressed(image: OCIImage, layer: Descriptor) -> BinaryIO:
    """Return the archive of a layer; members and frames that follow one another are one stream."""
    file = io.BufferedReader(_Chunks(iter(image.layers.read(layer))), 1 << 20)
    if layer.media_type == LAYER_GZIP:
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if layer.media_type == LAYER_ZSTD:
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


def damage_of(layer: Descriptor) -> tuple[type[Exception], ...]:
    """Return what the archive of a damaged layer raises; tarfile lets errors of numbers pass."""
    found = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)
    if layer.media_type != LAYER_ZSTD:
        return found
    import zstandard

    return (*found, zstandard.ZstdError)
