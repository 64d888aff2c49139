"""Blobs in a folder, as an OCI image layout has them: ``blobs/sha256/<hex>``.

They are written beside their place and moved there, so that readers and a killed process never see a part of
one.

Source: the OCI image specification 1.1, "Image Layout".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from imagesync.core.files import HashedFile, read_chunks
from imagesync.errors import LayoutError
from imagesync.registry.manifest import Descriptor
from imagesync.registry.oci_image import verified

BLOBS: Final = "blobs/sha256"
# A folder that isn't part of the format.
PARTIAL: Final = ".partial"


class BlobWriter(HashedFile):
    """A new blob of *folder*, hashed as it is written to *path*."""

    def __init__(self, folder: BlobFolder, path: Path) -> None:
        self._folder = folder
        super().__init__(path, folder.errors)

    def commit(self, media_type: str) -> Descriptor:
        """Move the blob to its place, and return its descriptor."""
        descriptor = Descriptor(media_type, self.digest, self.size)
        with self._errors():
            self._file.close()
            self._path.chmod(0o644)
            self._path.replace(self._folder.path(descriptor))
        return descriptor


class BlobFolder:
    """The blobs of an OCI image layout; several processes may add to them at once.

    Parameters
    ----------
    root
        The layout's folder; made when something is written.
    is_cache
        Whether its blobs can be had again: those that turn out to be damaged are removed.
    """

    def __init__(self, root: Path, *, is_cache: bool = False) -> None:
        self.root = root
        self._is_cache = is_cache

    def path(self, descriptor: Descriptor) -> Path:
        """Return the path of a blob, whether it is there or not."""
        return self.root / BLOBS / descriptor.hex

    def has(self, descriptor: Descriptor) -> bool:
        """Return True if a blob of that digest and size is there, unverified."""
        try:
            return self.path(descriptor).stat().st_size == descriptor.size
        except OSError:
            return False

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the content of a blob in chunks; see :class:`~imagesync.registry.oci_image.BlobSource`.

        Raises
        ------
        LayoutError
            It isn't there, or isn't what *descriptor* says.
        """
        path = self.path(descriptor)
        with self.errors(), path.open("rb") as file:
            try:
                yield from verified(read_chunks(file), descriptor, LayoutError)
            except LayoutError as error:
                if not self._is_cache:
                    raise
                path.unlink(missing_ok=True)
                raise LayoutError(
                    error.message, hint=f"It was removed from {self.root}: run the command again."
                ) from error

    def verify(self, descriptor: Descriptor) -> bool:
        """Return True if a blob is there and is what *descriptor* says."""
        try:
            for _ in self.read(descriptor):
                pass
        except LayoutError:
            return False
        return True

    def begin(self) -> BlobWriter:
        """Return a writer for a new blob, as a context manager."""
        with self.errors():
            self._make_folders()
            return BlobWriter(self, self.root / PARTIAL / os.urandom(8).hex())

    def add_bytes(self, content: bytes, media_type: str) -> Descriptor:
        """Add a blob with *content*, and return its descriptor."""
        descriptor = Descriptor.of(content, media_type)
        return descriptor if self.has(descriptor) else self.add_chunks([content], media_type)

    def add_chunks(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Add a blob with the content of *chunks*, and return its descriptor."""
        with self.begin() as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit(media_type)

    def add_file(self, path: Path, media_type: str) -> Descriptor:
        """Add a blob with the content of the file at *path*, and return its descriptor."""
        with self.errors(), path.open("rb") as file:
            return self.add_chunks(read_chunks(file), media_type)

    def copy(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Add the blob that *descriptor* describes from *chunks*, unless it is there.

        Raises
        ------
        LayoutError
            The content isn't what *descriptor* says: nothing is kept.
        """
        if not self.has(descriptor):
            self.add_chunks(verified(chunks, descriptor, LayoutError), descriptor.media_type)

    def link(self, descriptor: Descriptor, path: Path) -> None:
        """Give a file the name of the blob that *descriptor* describes, if both are on one disk.

        Parameters
        ----------
        path
            Has the content of the blob, without a doubt; nobody changes it.
        """
        with self.errors():
            self._make_folders()
        # Where there is no second name for it, or a blob has it, that is copied or stays.
        with suppress(OSError):
            self.path(descriptor).hardlink_to(path)
            self.path(descriptor).chmod(0o644)

    def _blobs(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in (self.root / BLOBS).glob("*"):
            with suppress(OSError):
                yield path, path.stat()

    def _make_folders(self) -> None:
        (self.root / BLOBS).mkdir(parents=True, exist_ok=True)
        (self.root / PARTIAL).mkdir(exist_ok=True)

    @property
    def _hint(self) -> str:
        if self._is_cache:
            return "Set IMAGESYNC_CACHE_DIR to a folder that you can write to."
        return "Name a folder with an OCI layout, or an empty one that you can write to."

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise any ``OSError`` as a :class:`~imagesync.errors.LayoutError` about this layout."""
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise LayoutError(
                    f"No space is left for the OCI layout {self.root}.",
                    hint="Free space, or name a folder on another disk. What the layout had is intact.",
                ) from error
            raise LayoutError(
                f"The OCI layout {self.root} can't be used: {error.strerror or error}"
                + (f" ({error.filename})." if error.filename else "."),
                hint=self._hint,
            ) from error
