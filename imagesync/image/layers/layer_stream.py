"""The archive of a layer as a stream, uncompressed while it's read, within bounds: others have written it."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from imagesync.core.archive_members import BoundedTarInfo
from imagesync.core.text import format_size
from imagesync.registry.manifest import LAYER_GZIP, LAYER_ZSTD

if TYPE_CHECKING:
    from imagesync.registry.manifest import Descriptor
    from imagesync.registry.oci_image import OCIImage


MOST_UNCOMPRESSED: Final = 64 << 30
"""Of one layer, in bytes: images with CUDA have layers of 10 GB."""


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


def layer_members(
    image: OCIImage, layer: Descriptor, *, limit: int = MOST_UNCOMPRESSED
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the archive of a layer with each of its members, whose content can be read until the next one.

    Parameters
    ----------
    limit
        The most bytes that the archive may have uncompressed.

    Raises
    ------
    Exception
        It is damaged, or beyond the bounds: one of :func:`damage_of`.
    """
    file = cast("BinaryIO", _Bounded(uncompressed(image, layer), limit))
    with tarfile.open(fileobj=file, mode="r|", tarinfo=BoundedTarInfo) as archive:
        for member in archive:
            yield archive, member
            # Else it keeps the headers of all members.
            archive.members.clear()  # type: ignore[attr-defined]


class _Bounded:
    """A file that ends with an error after so many bytes."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._left = limit
        self._limit = limit

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise OverflowError(f"it has more than {format_size(self._limit)} uncompressed")
        return content


def damage_of(layer: Descriptor) -> tuple[type[Exception], ...]:
    """Return the exceptions of a damaged layer's archive; tarfile lets errors of numbers pass."""
    found: tuple[type[Exception], ...] = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
    # Of headers that extend one another without end.
    found += (ValueError, OverflowError, RecursionError)
    if layer.media_type != LAYER_ZSTD:
        return found
    import zstandard

    return (*found, zstandard.ZstdError)
