"""OCI image layouts in folders: ``oci-layout``, ``index.json`` and blobs; ``index.json`` changes last.

Source: the OCI image specification 1.1, "Image Layout".
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final

from imagesync.core.files import replacing
from imagesync.errors import LayoutError
from imagesync.registry.blob_folder import PARTIAL, BlobFolder
from imagesync.registry.manifest import (
    INDEX,
    REF_NAME,
    Descriptor,
    Index,
    Manifest,
    canonical_json,
    parse_manifest,
)
from imagesync.registry.oci_image import OCIImage, load_image, read_document

if TYPE_CHECKING:
    from filelock import FileLock

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
LAYOUT_CONTENT: Final = canonical_json({"imageLayoutVersion": "1.0.0"})
# A file that isn't part of the format.
_LOCK: Final = ".imagesync.lock"
# Seconds that blobs without a manifest are kept when others are removed.
_GRACE: Final = 3600


class ImageLayout(BlobFolder):
    """An OCI image layout in a folder; several processes may write to it at once.

    ::

        layout = ImageLayout(Path("image"))
        layer = layout.add_file(Path("layer.tar.gz"), LAYER_GZIP)
        image = compose_image(config, [layer], layout)
        layout.put(image, name="latest")

    Parameters
    ----------
    root
        The folder; made when something is written.
    is_cache
        Whether its blobs can be had again: those that turn out to be damaged are removed.
    """

    def put(self, image: OCIImage, *, name: str, without: Collection[str] = ()) -> Descriptor:
        """Add what the layout lacks of *image*, name it, and return the descriptor of its manifest.

        Parameters
        ----------
        name
            Such as ``latest``; another image of that name loses it. May be empty.
        without
            Digests of layers to leave out, which are to be had elsewhere.
        """
        return self._enter(image.descriptor, name, lambda: self._add(image, without))

    def put_index(self, index: Index, *, name: str, images: Sequence[OCIImage] = ()) -> Descriptor:
        """Add an index, and name it.

        Parameters
        ----------
        images
            Those of its images that the layout lacks; they get no names of their own.
        """
        content = index.to_json()

        def fill() -> None:
            for image in images:
                self._add(image)
            self.add_bytes(content, INDEX)

        return self._enter(Descriptor.of(content, INDEX), name, fill)

    def _add(self, image: OCIImage, without: Collection[str] = ()) -> None:
        for layer in image.manifest.layers:
            if layer.digest not in without:
                self.copy(layer, image.layers.read(layer))
        self.add_bytes(image.config_content, image.manifest.config.media_type)
        self.add_bytes(image.content, image.descriptor.media_type)

    def put_manifest(
        self,
        content: bytes,
        descriptor: Descriptor,
        *,
        name: str,
        documents: Sequence[tuple[bytes, str]] = (),
    ) -> Descriptor:
        """Add the manifest *content* of an image or an artifact, and name it.

        Parameters
        ----------
        documents
            Content and media type of blobs that it lists.
        """

        def fill() -> None:
            for document, media_type in (*documents, (content, descriptor.media_type)):
                self.add_bytes(document, media_type)

        return self._enter(descriptor, name, fill)

    def _enter(self, descriptor: Descriptor, name: str, fill: Callable[[], None]) -> Descriptor:
        """Write the index entry of a manifest, after *fill* has added the blobs that aren't there."""
        entry = descriptor.named(name) if name else descriptor
        fill()
        with self._locked():
            # What was there before may have been pruned meanwhile.
            fill()
            kept = tuple(
                known
                for known in self.index().manifests
                if known.annotations.get(REF_NAME, "") != name or (not name and known.digest != entry.digest)
            )
            self._write_index(Index((*kept, entry)))
        return entry

    def remove(self, name: str) -> None:
        """Take the name from an image; its blobs stay."""
        with self._locked():
            known = self.index().manifests
            self._write_index(
                Index(tuple(entry for entry in known if entry.annotations.get(REF_NAME) != name))
            )

    def usage(self) -> tuple[int, int]:
        """Return the number of blobs, and their size in bytes."""
        sizes = [_own_size(status) for _, status in self._blobs()]
        return len(sizes), sum(sizes)

    def collect(self, *, unused_since: float | None = None) -> tuple[int, int]:
        """Remove images and the blobs that no other image has; return the blobs' number and size in bytes.

        What another process has written in the last hour stays: its manifest may be still to come.

        Parameters
        ----------
        unused_since
            Keep images that were used or written after this time, in seconds since the epoch; ``None``
            removes all.
        """
        if not (self.root / INDEX_FILE).exists():
            return 0, 0
        recent = time.time() - _GRACE
        with self._locked():
            entries = self.index().manifests
            kept = tuple(
                entry for entry in entries if unused_since is not None and self._used(entry) > unused_since
            )
            if kept != entries:
                self._write_index(Index(kept))
            needed = {blob.hex for entry in kept for blob in self._reachable(entry)}
            gone = {blob.hex for entry in entries for blob in self._reachable(entry)} - needed
            removed = [
                (path, _own_size(status))
                for path, status in self._blobs()
                if path.name not in needed and (path.name in gone or status.st_mtime < recent)
            ]
            for path, _ in removed:
                path.unlink(missing_ok=True)
        for path in (self.root / PARTIAL).glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime < recent:
                    path.unlink()
        return len(removed), sum(size for _, size in removed)

    def index(self) -> Index:
        """Return the layout's index, empty if there is no layout.

        Raises
        ------
        LayoutError
            The folder has something else.
        """
        path = self.root / INDEX_FILE
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Index()
        except OSError as error:
            raise LayoutError(
                f"The OCI layout {self.root} can't be read: {error.strerror}.", hint=self._hint
            ) from error
        try:
            found = parse_manifest(content)
        except ValueError as error:
            raise LayoutError(f"{path} can't be used: {error}.") from error
        if not isinstance(found, Index):
            raise LayoutError(f"{path} can't be used: it isn't an index.")
        return found

    def image(self, descriptor: Descriptor) -> OCIImage:
        """Return the image of a manifest in this layout.

        Raises
        ------
        LayoutError
            A blob is missing or damaged, or it isn't an image.
        """
        try:
            return load_image(descriptor, self)
        except ValueError as error:
            raise LayoutError(
                f"{descriptor.digest} in the OCI layout {self.root} can't be used: {error}."
            ) from error

    def whole_image(self, name: str) -> OCIImage | None:
        """Return the image of that name, or ``None`` if there is none, or a part of it is missing or damaged.

        Layers aren't read.
        """
        entry = self.index().find(name)
        try:
            image = None if entry is None else self.image(entry)
        except LayoutError:
            return None
        return image if image is not None and all(map(self.has, image.manifest.layers)) else None

    def touch(self, descriptor: Descriptor) -> None:
        """Record that the image of a manifest is used now, which pruning goes by."""
        with suppress(OSError):
            os.utime(self.path(descriptor))

    def _used(self, entry: Descriptor) -> float:
        try:
            return self.path(entry).stat().st_mtime
        except OSError:
            return 0.0

    def _reachable(self, entry: Descriptor) -> Iterator[Descriptor]:
        """Yield a manifest and all that it lists, as far as it is here."""
        yield entry
        # A damaged manifest refers to nothing.
        with suppress(LayoutError, ValueError):
            manifest = parse_manifest(read_document(entry, self))
            for child in manifest.manifests if isinstance(manifest, Index) else ():
                yield from self._reachable(child)
            if isinstance(manifest, Manifest):
                yield from manifest.blobs

    def _make_folders(self) -> None:
        super()._make_folders()
        if not (self.root / LAYOUT_FILE).exists():
            with replacing(self.root / LAYOUT_FILE, mode=0o644) as file:
                file.write(LAYOUT_CONTENT)
        if not (self.root / INDEX_FILE).exists():
            with self._locked():
                if not (self.root / INDEX_FILE).exists():
                    self._write_index(Index())

    def _write_index(self, index: Index) -> None:
        with self.errors(), replacing(self.root / INDEX_FILE, mode=0o644) as file:
            file.write(index.to_json())

    @cached_property
    def _lock(self) -> FileLock:
        from filelock import FileLock

        # One for the layout, which a thread that has it may take again.
        return FileLock(self.root / _LOCK)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.errors():
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()


def _own_size(status: os.stat_result) -> int:
    """Return the size of a blob; 0 if it is a second name of a file of the store, which counts it."""
    return 0 if status.st_nlink > 1 else status.st_size
