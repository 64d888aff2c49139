"""One request for the images of several platforms, and for the index that names them all.

Each image is found or built as if it were the only one, and has a tag of its own. The index is stored and
pushed last. Its hash covers the environment hashes of its images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from imagesync.core.digests import sha256_of_json
from imagesync.core.image_reference import parse_reference, split_reference, tags_by_repository
from imagesync.core.progress import Severity
from imagesync.errors import RegistryError, UsageError
from imagesync.image.built_image import Image
from imagesync.image_layout import Label, image_tag
from imagesync.pipeline.environment_hash import index_hash
from imagesync.pipeline.outputs import write_index
from imagesync.registry.manifest import Descriptor, Index
from imagesync.registry.push import push_image, push_index
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.pipeline.image_request import ImageRequest, RequestOptions
    from imagesync.pipeline.outputs import Output
    from imagesync.registry.oci_image import OCIImage
    from imagesync.registry.repository import Repository


@dataclass(frozen=True)
class IndexRequest:
    """A request for an index.

    Parameters
    ----------
    requests
        Those for its images, one for each platform, made with :meth:`options_of_images`.
    options
        What is asked of the index.
    """

    requests: Mapping[Platform, ImageRequest]
    options: RequestOptions

    @staticmethod
    def options_of_images(options: RequestOptions, repository: str) -> RequestOptions:
        """Return the request for each image in *repository*: the tags are for the index alone.

        Raises
        ------
        UsageError
            One of the outputs takes a single image.
        """
        if any(output.kind == "docker-archive" for output in options.outputs):
            raise UsageError(
                "--output docker-archive takes one image, and this build makes one for each platform.",
                hint="Write an oci-archive, or name one platform with --platform.",
            )
        # For another registry they are copied from that of *repository*.
        elsewhere = tuple(
            tag
            for tag in options.tags
            if split_reference(tag)[0] != repository and not parse_reference(tag).names_registry
        )
        return replace(options, tags=(), with_digest=False, index_tags=elsewhere)

    def image(self) -> Image:
        """Return the index, with all its images found or built, and pushed if that was asked for."""
        for _, request in self._sorted:
            _ = request.known  # a base image that lacks a platform is an error before the others are built
        images: dict[Platform, Image] = {}
        for platform, request in self._sorted:
            request.context.progress.line(f"Image for {platform}:")
            images[platform] = request.image()
        digest = index_hash({platform.name: image.environment_hash for platform, image in images.items()})
        repository = self._first.context.settings.repository
        index = self._index(images.items(), digest)
        made = Image(
            reference=f"{repository}:{image_tag(digest)}",
            image_id=index.digest,
            environment_hash=digest,
            lock_digest=sha256_of_json(
                {platform.name: image.lock_digest for platform, image in images.items()}
            ),
            cached=all(image.cached for image in images.values()),
            deviations=_each_once(image.deviations for image in images.values()),
            repacked=_each_once(image.repacked for image in images.values()),
            images={platform.name: image for platform, image in images.items()},
        )
        self._first.finder.keep_index(index, (made.reference, *self.options.tags), images)
        return replace(made, digest=self._digest(made, index))

    def write(self, image: Image, output: Output) -> None:
        """Put the index in a further place; an engine gets the image of its own platform.

        Raises
        ------
        LayoutError, EngineError, RegistryError
            It can't be read, or written there.
        """
        if output.kind == "docker":
            own = self._first.context.engine_platform(self.requests)
            names = (image.reference, *self.options.tags)
            self.requests[own].finder.write(image.images[own.name], output, tags=names)
        elif output.kind != "registry":
            images = [(platform, image.images[platform.name]) for platform, _ in self._sorted]
            stored = [self.requests[platform].finder.stored(each) for platform, each in images]
            index = self._index(images, image.environment_hash)
            progress = self._first.context.progress
            write_index(output, index, stored, reference=image.reference, progress=progress)

    def attest(self, image: Image) -> None:
        """Attach SBOM and provenance to each image in its registry."""
        for platform, request in self._sorted:
            request.attest(image.images[platform.name])

    @cached_property
    def _sorted(self) -> list[tuple[Platform, ImageRequest]]:
        """Return the requests in an order that doesn't depend on that of the settings."""
        return sorted(self.requests.items(), key=lambda item: item[0].name)

    @property
    def _first(self) -> ImageRequest:
        return self._sorted[0][1]

    def _index(self, images: Iterable[tuple[Platform, Image]], digest: str) -> Index:
        manifests = tuple(self._manifest(platform, image) for platform, image in images)
        return Index(manifests, {Label.ENVIRONMENT_HASH: digest})

    def _manifest(self, platform: Platform, image: Image) -> Descriptor:
        """Return the descriptor of an image's manifest in the index."""
        found = self.requests[platform].finder.manifest_of(image)
        if found is None:
            assert image.digest is not None  # noqa: S101  what isn't here was found in the registry
            with self._open(image.digest) as repository:
                found = _read(repository, platform).descriptor
        return Descriptor(found.media_type, found.digest, found.size, platform=platform.full_name)

    def _digest(self, image: Image, index: Index) -> str | None:
        """Return the index by its digest in the registry: pushed now, or there already; else ``None``."""
        if self.options.push:
            return self._push(image, index)
        if not self.options.with_digest or not parse_reference(image.reference).names_registry:
            return None
        try:
            with self._open(image.reference) as repository:
                is_there = repository.head(repository.wanted) == index.digest
        except RegistryError as error:
            self._first.context.progress.line(error.message, Severity.WARNING)
            return None
        return f"{split_reference(image.reference)[0]}@{index.digest}" if is_there else None

    def _push(self, image: Image, index: Index) -> str:
        names = (image.reference, *self.options.tags)
        remote = (name for name in names if parse_reference(name).names_registry)
        own, pushed = split_reference(image.reference)[0], []
        for repository, tags in tags_by_repository(remote).items():
            if repository != own:
                self._push_images(image, repository)
            with self._open(repository) as there:
                pushed.append(push_index(index, there, tags=tags, progress=self._first.context.progress))
        return pushed[0]

    def _push_images(self, image: Image, repository: str) -> None:
        """Copy the images from the repository of the settings to another one, under their own tags.

        An engine that pushed them there might compress layers anew, and the index names manifests by their
        digests.
        """
        context = self._first.context
        for platform, request in self._sorted:
            each = image.images[platform.name]
            assert each.digest is not None  # noqa: S101  it was pushed
            with self._open(each.digest) as source, self._open(repository) as target:
                is_here = request.finder.manifest_of(each) is not None
                stored = request.finder.stored(each) if is_here else _read(source, platform)
                is_beside = source.reference.is_beside(target.reference)
                push_image(
                    stored,
                    target,
                    tags=(split_reference(each.reference)[1],),
                    progress=context.progress,
                    cache=context.cache_folder / ANSWERS,
                    mount_from=dict.fromkeys(
                        (blob.digest for blob in stored.manifest.blobs if is_beside), source.reference.path
                    ),
                )

    def _open(self, reference: str) -> Repository:
        return self._first.context.open_repository(reference)


def _each_once(lists: Iterable[Iterable[Mapping[str, Any]]]) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for entries in lists:
        found += (entry for entry in entries if entry not in found)
    return tuple(found)


def _read(repository: Repository, platform: Platform) -> OCIImage:
    """Return the image that a reference with a digest names.

    Raises
    ------
    RegistryError
        It was removed.
    """
    found = repository.resolve(platform.name)
    if found is None:
        raise RegistryError(
            f"{repository.text} was removed from its registry.", hint="Run the command again."
        )
    return found[1]
