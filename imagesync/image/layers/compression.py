"""Compression of layers: gzip members or zstd frames, whose bytes don't depend on the machine.

libdeflate gives the same bytes on x86-64 and arm64 (``docs/builders.md`` has the measurement). ISA-L is twice
as fast, but its bytes differ between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Final, Literal, Protocol

BLOCK: Final = 8_000_000
"""The most bytes that one gzip member or zstd frame holds, uncompressed."""
CompressionName = Literal["gzip", "zstd"]
_GZIP_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3


class Compression(Protocol):
    """A format of compressed layers, by a library of a certain version."""

    @property
    def media_type(self) -> str:
        """Return the media type of layers."""

    @property
    def identity(self) -> str:
        """Return all that the compressed bytes depend on: library, version, level and size of blocks."""

    def compress(self, block: bytes) -> bytes:
        """Return *block* as one member."""

    def decompress(self, member: bytes, size: int) -> bytes:
        """Return the content of one member, which has *size* bytes.

        Raises
        ------
        ValueError
            The member is damaged.
        """


class Gzip:
    """gzip by libdeflate, which every engine reads."""

    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"

    @property
    def identity(self) -> str:
        """Return the version of the library and the level."""
        return f"gzip deflate {version('deflate')} level {_GZIP_LEVEL} block {BLOCK}"

    def compress(self, block: bytes) -> bytes:
        """Return *block* as one gzip member without a time or a name."""
        import deflate

        return bytes(deflate.gzip_compress(block, _GZIP_LEVEL))

    def decompress(self, member: bytes, size: int) -> bytes:
        """Return the content of one gzip member."""
        import deflate

        try:
            content = bytes(deflate.gzip_decompress(member, size))
        except deflate.DeflateError as error:
            raise ValueError(f"damaged gzip member: {error}") from error
        return _checked(content, size)


class Zstd:
    """zstd, for Docker 23, containerd 1.5 and later, and Podman."""

    media_type = "application/vnd.oci.image.layer.v1.tar+zstd"

    @property
    def identity(self) -> str:
        """Return the version of the library and the level."""
        return f"zstd zstandard {version('zstandard')} level {_ZSTD_LEVEL} block {BLOCK}"

    def compress(self, block: bytes) -> bytes:
        """Return *block* as one zstd frame."""
        import zstandard

        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(block)

    def decompress(self, member: bytes, size: int) -> bytes:
        """Return the content of one zstd frame."""
        import zstandard

        try:
            content = zstandard.ZstdDecompressor().decompress(member, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged zstd frame: {error}") from error
        return _checked(content, size)


def compression_of(name: CompressionName) -> Compression:
    """Return the compression of that name."""
    return Zstd() if name == "zstd" else Gzip()


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of *pieces* in blocks of :data:`BLOCK` bytes; the last one is smaller.

    >>> [len(block) for block in blocks([bytes(BLOCK - 1), bytes(3)])]
    [8000000, 2]
    """
    pending = bytearray()
    for piece in pieces:
        pending += piece
        while len(pending) >= BLOCK:
            # Without a copy of the block beside it: each worker has one.
            with memoryview(pending) as view:
                block = bytes(view[:BLOCK])
            yield block
            del pending[:BLOCK]
    if pending:
        yield bytes(pending)


def _checked(content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise ValueError(f"a member has {len(content)} bytes instead of {size}")
    return content
