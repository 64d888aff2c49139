"""Images in tar archives: ``oci-archive``, and ``docker-archive`` as ``docker save`` writes it.

An archive for Docker is both at once, an OCI layout with ``manifest.json`` beside it: engines before 25 read
only that file, and its layers must be compressed by gzip or not at all.

Source: the OCI image specification 1.1, "Image Layout"; the Docker image specification 1.2.
"""

from __future__ import annotations

import hashlib
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

from imagesync.core.archive_members import BoundedTarInfo
from imagesync.core.digests import sha256_of
from imagesync.core.files import read_chunks, replacing
from imagesync.core.image_reference import parse_reference, split_reference
from imagesync.core.strict_json import load_json
from imagesync.errors import LayoutError
from imagesync.registry.blob_folder import BLOBS
from imagesync.registry.config import parse_config
from imagesync.registry.manifest import (
    INDEX,
    LAYER,
    LAYER_GZIP,
    LAYER_ZSTD,
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    Index,
    canonical_json,
    parse_manifest,
)
from imagesync.registry.oci_image import OCIImage, compose_image, load_image, verified
from imagesync.registry.oci_layout import INDEX_FILE, LAYOUT_CONTENT, LAYOUT_FILE

_DOCKER_FILE: Final = "manifest.json"
_CONTAINERD_NAME: Final = "io.containerd.image.name"
_GZIP: Final = b"\x1f\x8b"
# Of an archive with many images; their layers are one file each.
_MOST_MEMBERS: Final = 20_000
_DAMAGE: Final = (
    *(tarfile.TarError, EOFError, zlib.error, lzma.LZMAError),
    *(ValueError, OverflowError, RecursionError),
)


def write_oci_archive(image: OCIImage, path: Path, *, name: str = "") -> None:
    """Write *image* as an OCI layout in one file, which appears whole or not at all.

    Parameters
    ----------
    name
        The image's name in the layout.

    Raises
    ------
    LayoutError
        The file can't be written.
    """
    with _replacing(path) as file:
        write_archive(image, file, name=name)


def write_index_archive(index: Index, images: Sequence[OCIImage], path: Path, *, name: str) -> None:
    """Write *index* and its *images* as an OCI layout in one file, with each blob once.

    Raises
    ------
    LayoutError
        The file can't be written.
    """
    content = index.to_json()
    entry = Descriptor.of(content, INDEX)
    documents = {
        LAYOUT_FILE: LAYOUT_CONTENT,
        INDEX_FILE: Index((entry.named(name),)).to_json(),
        _blob(entry): content,
    }
    for image in images:
        documents[_blob(image.descriptor)] = image.content
        documents[_blob(image.manifest.config)] = image.config_content
    layers = {layer.digest: (layer, image) for image in images for layer in image.manifest.layers}
    with _replacing(path) as file:
        for member, document in documents.items():
            _add(file, member, len(document), [document])
        for layer, image in layers.values():
            _add(file, _blob(layer), layer.size, image.layers.read(layer))
        file.write(b"\0" * 2 * tarfile.BLOCKSIZE)


def write_docker_archive(image: OCIImage, path: Path, *, references: Sequence[str] = ()) -> None:
    """Write *image* for ``docker load``; see :func:`write_archive`."""
    with _replacing(path) as file:
        write_archive(image, file, references=references, docker=True)


def write_archive(
    image: OCIImage,
    file: IO[bytes],
    *,
    name: str = "",
    references: Sequence[str] = (),
    docker: bool = False,
    without: Collection[str] = (),
) -> None:
    """Write *image* as a tar archive to *file*, which needn't be seekable: the same bytes every time.

    Parameters
    ----------
    name
        The image's name in the layout.
    references
        What an engine names the image: ``repository:tag`` each.
    docker
        Whether to add ``manifest.json``, for engines before 25 and for all that read ``docker-archive``.
    without
        Digests of layers to leave out, because the engine that reads the archive has them.

    Raises
    ------
    LayoutError
        A layer is compressed by zstd, which ``docker load`` doesn't read in such an archive.
    """
    if docker and any(layer.media_type == LAYER_ZSTD for layer in image.manifest.layers):
        raise LayoutError(
            "An archive for `docker load` can't have layers that are compressed by zstd.",
            hint='Build with compression = "gzip", or write an oci-archive.',
        )
    named = [_named(image.descriptor, reference) for reference in references]
    entries = named or [image.descriptor.named(name) if name else image.descriptor]
    documents = {
        LAYOUT_FILE: LAYOUT_CONTENT,
        INDEX_FILE: Index(tuple(entries)).to_json(),
        _blob(image.descriptor): image.content,
        _blob(image.manifest.config): image.config_content,
    }
    if docker:
        documents[_DOCKER_FILE] = _docker_manifest(image, references)
    for member, content in documents.items():
        _add(file, member, len(content), [content])
    for layer in dict.fromkeys(image.manifest.layers):
        if layer.digest not in without:
            _add(file, _blob(layer), layer.size, image.layers.read(layer))
    file.write(b"\0" * 2 * tarfile.BLOCKSIZE)


def _named(descriptor: Descriptor, reference: str) -> Descriptor:
    repository, tag = split_reference(reference)
    # containerd knows images by their full names alone.
    names = {**descriptor.annotations, _CONTAINERD_NAME: _full_name(f"{repository}:{tag}")}
    return replace(descriptor, annotations=names).named(tag)


def _full_name(reference: str) -> str:
    parts = parse_reference(reference)
    return f"{parts.name}:{parts.tag or 'latest'}"


def _docker_manifest(image: OCIImage, references: Sequence[str]) -> bytes:
    entry = {
        "Config": _blob(image.manifest.config),
        "RepoTags": [":".join(split_reference(reference)) for reference in references],
        "Layers": [_blob(layer) for layer in image.manifest.layers],
    }
    return canonical_json([entry])


def _blob(descriptor: Descriptor) -> str:
    return f"{BLOBS}/{descriptor.hex}"


def _add(file: IO[bytes], name: str, size: int, chunks: Iterable[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    file.write(entry.tobuf(tarfile.PAX_FORMAT))
    for chunk in chunks:
        file.write(chunk)
    file.write(b"\0" * (-size % tarfile.BLOCKSIZE))


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode=0o644) as file:
            yield file
    except OSError as error:
        raise LayoutError(
            f"The archive {path} can't be written: {error.strerror or error}.",
            hint="Name a file in a folder with space that you can write to.",
        ) from error


class ImageArchive:
    """An image archive of either kind, whose members are read in place.

    As a context manager it closes the file. Nothing is unpacked, so the names of members can't do harm.

    Parameters
    ----------
    path
        The file; one that is compressed as a whole is read, too, but slowly.

    Raises
    ------
    LayoutError
        It can't be read, or is no archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as stack:
            try:
                self._archive = stack.enter_context(tarfile.open(path, tarinfo=BoundedTarInfo))
                self._members = {
                    entry.name.removeprefix("./"): entry for entry in islice(self._archive, _MOST_MEMBERS + 1)
                }
            except OSError as error:
                raise LayoutError(f"The archive {path} can't be read: {error.strerror or error}.") from error
            except _DAMAGE as error:
                raise self._unusable(f"it isn't a whole tar archive ({error})") from error
            if len(self._members) > _MOST_MEMBERS:
                raise self._unusable(f"it has more than {_MOST_MEMBERS} files")
            # From here on the context manager closes it.
            stack.pop_all()
        # Members by the digest of what they hold; in archives of Docker alone they have other names.
        self._blobs: dict[str, str] = {}

    def __enter__(self) -> ImageArchive:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    @property
    def is_layout(self) -> bool:
        """Return True if the archive has an OCI layout, whether it has Docker's files or not."""
        return INDEX_FILE in self._members and LAYOUT_FILE in self._members

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the content of a blob in chunks; see :class:`~imagesync.registry.oci_image.BlobSource`."""
        member = self._blobs.get(descriptor.digest, _blob(descriptor))
        yield from verified(self._chunks(member), descriptor, LayoutError)

    def index(self) -> Index:
        """Return the index of the layout in the archive."""
        try:
            found = parse_manifest(self._content(INDEX_FILE, MAX_MANIFEST))
        except ValueError as error:
            raise self._unusable(f"{INDEX_FILE}: {error}") from error
        if not isinstance(found, Index):
            raise self._unusable(f"{INDEX_FILE} isn't an index")
        return found

    def image(self, descriptor: Descriptor) -> OCIImage:
        """Return the image of a manifest in the layout of the archive."""
        try:
            return load_image(descriptor, self)
        except ValueError as error:
            raise self._unusable(str(error)) from error

    def docker_entry(self, reference: str = "") -> Descriptor | None:
        """Return the manifest of an image in the layout that newer engines add; ``None`` if there is none.

        Parameters
        ----------
        reference
            The image's name; empty for the only one.
        """
        if not self.is_layout:
            return None
        index = self.index()
        if not reference:
            return index.find()
        names = (entry.annotations.get(_CONTAINERD_NAME) for entry in index.manifests)
        pairs = zip(names, index.manifests, strict=True)
        return next(
            (entry for name, entry in pairs if name and _full_name(name) == _full_name(reference)), None
        )

    def docker_image(self, reference: str = "") -> OCIImage:
        """Return an image of ``manifest.json``, as ``docker save`` writes it.

        Its layers aren't compressed as a rule. The manifest is made here, since the archive has none.

        Parameters
        ----------
        reference
            The image's name; empty for the only one.

        Raises
        ------
        LayoutError
            The archive has no such image, or can't be used.
        """
        try:
            chosen = self._docker_manifest(reference)
            config = parse_config(self._content(chosen["Config"], MAX_CONFIG))
            members = [self._resolved(name) for name in chosen["Layers"]]
            if len(members) != len(config.diff_ids):
                raise self._unusable(f"it has {len(members)} layers and describes {len(config.diff_ids)}")
        except KeyError as error:
            missing = reference or str(error).strip("'\"")
            raise self._unusable(f"it has no {missing}") from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise self._unusable(f"{_DOCKER_FILE}: {error}") from error
        pairs = zip(members, config.diff_ids, strict=True)
        return compose_image(config, [self._layer(name, diff_id) for name, diff_id in pairs], self)

    def docker_image_id(self, reference: str = "") -> str:
        """Return the ID of an image of ``manifest.json``: the digest of its configuration.

        Parameters
        ----------
        reference
            The image's name; empty for the only one. :meth:`docker_image` has returned it.
        """
        return sha256_of(self._content(self._docker_manifest(reference)["Config"], MAX_CONFIG))

    def _docker_manifest(self, reference: str) -> dict[str, Any]:
        entries = load_json(self._content(_DOCKER_FILE, MAX_MANIFEST))
        named = {_full_name(tag): entry for entry in entries for tag in entry["RepoTags"] or ()}
        chosen: dict[str, Any] = named[_full_name(reference)] if reference else entries[0]
        if not reference and len(entries) > 1:
            raise self._unusable(f"it has several images; name one: {', '.join(named)}")
        return chosen

    def _layer(self, member: str, diff_id: str) -> Descriptor:
        start = next(self._chunks(member), b"")
        if start.startswith(_GZIP):
            found = hashlib.sha256()
            for chunk in self._chunks(member):
                found.update(chunk)
            media_type, digest = LAYER_GZIP, f"sha256:{found.hexdigest()}"
        else:
            # Verified by whoever reads the layer.
            media_type, digest = LAYER, diff_id
        self._blobs[digest] = member
        return Descriptor(media_type, digest, self._members[member].size)

    def _resolved(self, name: str) -> str:
        """Return the member with the content of *name*: ``docker save`` links layers that are alike."""
        for _ in range(8):
            entry = self._members[name]
            if entry.isreg():
                return name
            folder = "" if entry.islnk() else posixpath.dirname(name)
            name = posixpath.normpath(posixpath.join(folder, entry.linkname))
        raise self._unusable(f"{name} is a link to a link")

    def _content(self, member: str, limit: int) -> bytes:
        if member not in self._members:
            raise self._unusable(f"it has no {member}")
        if self._members[member].size > limit:
            raise self._unusable(f"{member} has more than {limit} bytes")
        return b"".join(self._chunks(member))

    def _chunks(self, member: str) -> Iterator[bytes]:
        entry = self._members.get(member)
        if entry is None or not entry.isreg():
            raise self._unusable(f"it has no {member}")
        try:
            file = self._archive.extractfile(entry)
            assert file is not None  # noqa: S101  a regular file
            with file:
                yield from read_chunks(file)
        except (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise self._unusable(f"{member} is truncated ({error})") from error

    def _unusable(self, reason: str) -> LayoutError:
        return LayoutError(
            f"The archive {self.path} can't be used: {reason}.",
            hint="It takes what `docker save`, `skopeo copy` and imagesync write.",
        )
