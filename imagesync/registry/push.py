"""Push an image: what the registry lacks, in parallel, and its manifest last.

Until the manifest is there nothing refers to the blobs: an interrupted push publishes nothing, and the next
one finds what was sent.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.image_reference import parse_reference
from imagesync.core.progress import Progress
from imagesync.core.text import counted
from imagesync.errors import RegistryError
from imagesync.registry.manifest import INDEX, Descriptor, Index, Manifest, parse_manifest
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.repository import Repository
from imagesync.registry.transfer import Stoppable, in_parallel
from imagesync.registry.upload import upload

_FORMAT = 1
# Below this size a blob is sent without asking for it: that takes as long as the question.
_TINY = 16 << 10


@dataclass(frozen=True)
class Pushed:
    """The outcome of a push.

    Parameters
    ----------
    reference
        ``<repository>@sha256:<hex>``.
    sent, mounted
        The sizes of what was sent and mounted, in bytes.
    was_there
        Whether the registry had the image under all tags.
    """

    reference: str
    sent: int = 0
    mounted: int = 0
    was_there: bool = False


def push_image(
    image: OCIImage,
    repository: Repository,
    *,
    tags: Sequence[str],
    progress: Progress,
    cache: Path | None = None,
    mount_from: Mapping[str, str] | None = None,
    present: Collection[str] = (),
) -> Pushed:
    """Push an image to a repository under some tags.

    Parameters
    ----------
    tags
        Without the repository; the image gets only its digest if there are none.
    progress
        Shows the bytes.
    cache
        The folder that remembers which manifest was pushed last to a repository: the layers that it lists
        aren't asked for. ``None`` to ask for all.
    mount_from
        The repositories of the same registry to mount layers from, by the layers' digests.
    present
        Digests of layers that the repository is known to have, besides those that were pushed last.

    Raises
    ------
    RegistryError
        A request fails after several attempts, or the registry has something else afterwards.
    ImagesyncError
        A layer can't be read.
    """
    names = tuple(dict.fromkeys(tags)) or (image.digest,)
    missing = [name for name in names if repository.head(name) != image.digest]
    reference = f"{repository.name}@{image.digest}"
    if not missing:
        return Pushed(reference, was_there=True)
    push = _Push(image, repository, progress, mount_from or {})
    if len(missing) == len(names):
        push.send(_last_pushed(cache, repository).union(present))
        if not push.put_manifest(missing[0]):
            # The registry has lost a layer of that manifest, or another repository's.
            push.send(frozenset())
            push.put_manifest_again(missing[0])
        missing = missing[1:]
    for name in missing:
        repository.put_manifest(image.content, image.descriptor.media_type, name)
    for name in names:
        _check(repository, name, image.digest)
    if cache is not None:
        write_cache(_cache_file(cache, repository.reference.name), image.digest, key=_FORMAT)
    return Pushed(reference, push.sent, push.mounted)


def push_index(index: Index, repository: Repository, *, tags: Sequence[str], progress: Progress) -> str:
    """Push an index, whose manifests the repository has, under some tags; return it with its digest.

    Raises
    ------
    RegistryError
        The registry refuses, or has something else afterwards.
    """
    content, digest = index.to_json(), index.digest
    missing = [tag for tag in tags if repository.head(tag) != digest]
    for tag in missing:
        repository.put_manifest(content, INDEX, tag)
        _check(repository, tag, digest)
    reference = f"{repository.name}@{digest}"
    progress.line(f"Pushed the index {reference}" if missing else f"The registry has it already: {reference}")
    return reference


def was_pushed_to(repository: str, cache: Path) -> bool:
    """Return True if a push to *repository*, without a tag, has succeeded from this machine before."""
    return read_cache(_cache_file(cache, parse_reference(repository).name), key=_FORMAT) is not None


class _Push:
    def __init__(
        self, image: OCIImage, repository: Repository, progress: Progress, mount_from: Mapping[str, str]
    ) -> None:
        self._image = image
        self._repository = repository
        self._progress = progress
        self._mount_from = mount_from
        self._counting = threading.Lock()
        self.sent = 0
        self.mounted = 0

    def send(self, known: frozenset[str]) -> None:
        """Send or mount the blobs that the repository lacks; *known* are digests that it has."""
        unknown = [blob for blob in self._image.manifest.blobs if blob.digest not in known]
        lacking = in_parallel(self._lacks, unknown)
        blobs = [blob for blob, lacks in zip(unknown, lacking, strict=True) if lacks]
        if not blobs:
            return
        label = f"Pushing {counted(len(blobs), 'blob')} to {self._repository.name}"
        with self._progress.task(label, total=sum(blob.size for blob in blobs), unit="bytes") as task:
            sources = Stoppable(_Blobs(self._image))

            def send(blob: Descriptor) -> None:
                source = self._mount_from.get(blob.digest, "")
                mounted = upload(self._repository, blob, sources, task, mount_from=source)
                with self._counting:
                    self.sent += 0 if mounted else blob.size
                    self.mounted += blob.size if mounted else 0

            # The largest first, so that none is left over at the end when the others are done.
            in_parallel(send, sorted(blobs, key=lambda blob: -blob.size), stop=sources.stop)

    def put_manifest(self, name: str, *, last: bool = False) -> bool:
        """Put the manifest; ``False`` if the registry lacks a blob of it, unless it is the *last* attempt."""
        image = self._image
        response = self._repository.try_put_manifest(image.content, image.descriptor.media_type, name)
        if not response.ok and not last and "BLOB_UNKNOWN" in response.text:
            return False
        if not response.ok:
            raise self._repository.connection.refused(f"push {self._repository.name}:{name}", response)
        return True

    def put_manifest_again(self, name: str) -> None:
        """Put the manifest after all its blobs were sent, with pauses as long as the registry lacks one.

        A registry whose files name the blobs of a repository writes these files anew whenever somebody sends
        a blob, so that it seems to lack what several clients send at once.
        """
        from imagesync.registry.http import ATTEMPTS

        for attempt in range(1, ATTEMPTS):
            if self.put_manifest(name):
                return
            self._repository.connection.wait(attempt)
        self.put_manifest(name, last=True)

    def _lacks(self, blob: Descriptor) -> bool:
        return blob.size < _TINY or not self._repository.has_blob(blob)


class _Blobs:
    """Layers and configuration of an image as one source."""

    def __init__(self, image: OCIImage) -> None:
        self._image = image

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        if descriptor.digest == self._image.manifest.config.digest:
            yield self._image.config_content
        else:
            yield from self._image.layers.read(descriptor)


def _check(repository: Repository, name: str, digest: str) -> None:
    found = repository.head(name)
    if found != digest:
        raise RegistryError(
            f"{repository.name}:{name} in the registry isn't what was pushed: it is {found or 'missing'},"
            f" and here it is {digest}.",
            hint="Somebody else pushes under that name, or the registry changes manifests."
            " Push again; if it stays so, ask the operator of the registry.",
        )


def _cache_file(cache: Path, repository: str) -> Path:
    return cache_path(cache, "pushed", repository)


def _last_pushed(cache: Path | None, repository: Repository) -> frozenset[str]:
    """Return the digests of the blobs of the manifest that was pushed last, if the registry still has it."""
    digest = None if cache is None else read_cache(_cache_file(cache, repository.reference.name), key=_FORMAT)
    found = None if digest is None else repository.manifest(str(digest))
    if found is None:
        return frozenset()
    try:
        manifest = parse_manifest(found[1])
    except ValueError:
        return frozenset()
    return (
        frozenset(blob.digest for blob in manifest.blobs) if isinstance(manifest, Manifest) else frozenset()
    )
