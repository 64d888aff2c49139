"""Images of builds without an engine in registries: found by their environment hash, fetched, pushed."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagesync.core.image_reference import parse_reference, split_reference, tags_by_repository
from imagesync.engine.lookup import FoundImage
from imagesync.errors import RegistryError
from imagesync.image_layout import image_tag
from imagesync.pipeline.registry_images import image_in_registry
from imagesync.registry.image_source import fetch_layers
from imagesync.registry.push import push_image, was_pushed_to
from imagesync.registry.registry import check_push
from imagesync.registry.repository import Repository
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.image.built_image import Image
    from imagesync.pipeline.cached_layers import CachedLayers
    from imagesync.pipeline.context import Context
    from imagesync.registry.image_source import SourceImage
    from imagesync.registry.oci_image import OCIImage
    from imagesync.registry.oci_layout import ImageLayout


@dataclass(frozen=True)
class LayoutRegistry:
    """The registries that images of the layout are fetched from and pushed to, over one connection each.

    Parameters
    ----------
    context
        The context of the command, whose setting ``repository`` says where images are looked for.
    layout
        Keeps the images that are fetched.
    labels
        Gets the labels of images that are found, by their IDs.
    """

    context: Context
    layout: ImageLayout
    labels: MutableMapping[str, Mapping[str, str]] = field(default_factory=dict)
    _connected: dict[str, Repository] = field(default_factory=dict)

    def close(self) -> None:
        """Close the connections."""
        with ExitStack() as stack:
            for repository in self._connected.values():
                stack.push(repository)

    def find(self, environment_hash: str) -> Image | None:
        """Return the image with *environment_hash*, or ``None``; nothing is fetched.

        Raises
        ------
        RegistryError
            The registry doesn't answer, refuses, or has something else under that name.
        """
        repository, tag = self.context.settings.repository, image_tag(environment_hash)
        resolved = self.open(f"{repository}:{tag}").resolve(self.context.platform.name)
        if resolved is None:
            return None
        named, documents = resolved
        labels = documents.config.container.labels
        image = image_in_registry(
            FoundImage(documents.manifest.config.digest, (tag,), labels, named.digest),
            repository=repository,
            environment_hash=environment_hash,
            progress=self.context.progress,
        )
        if image is not None:
            self.labels[image.image_id] = labels
        return image

    def fetch(self, image: Image) -> Image:
        """Return an image that :meth:`find` found, copied to the layout, where it has its name then.

        Raises
        ------
        RegistryError, LayoutError
            It can't be read or written, or was removed.
        """
        assert image.digest is not None  # noqa: S101  find() sets it
        # By its digest: the tag may have moved meanwhile.
        resolved = self.open(image.digest).resolve(self.context.platform.name)
        if resolved is None:
            raise RegistryError(
                f"{image.digest} was removed from its registry.", hint="Run the command again."
            )
        _, documents = resolved
        fetch_layers(documents, self.layout, progress=self.context.progress)
        self.layout.put(documents, name=image.reference)
        return image

    def digest(self, reference: str) -> str | None:
        """Return the digest that a registry has under *reference*, or ``None``."""
        there = self.open(reference)
        return there.head(there.wanted)

    def check_push(self, tags: Sequence[str]) -> None:
        """Check, before a build, that the user may push to ``repository`` and the registries in *tags*.

        After a push that succeeded it isn't checked again.

        Raises
        ------
        RegistryError
            The user may not push, or a registry doesn't answer.
        """
        context = self.context
        named = (split_reference(tag)[0] for tag in tags if parse_reference(tag).names_registry)
        for repository in dict.fromkeys((context.settings.repository, *named)):
            if not was_pushed_to(repository, context.cache_folder / ANSWERS):
                insecure = context.takes_without_tls(repository)
                check_push(
                    repository, progress=context.progress, insecure=insecure, timeout=context.settings.timeout
                )

    def push(
        self,
        image: OCIImage,
        references: Sequence[str],
        *,
        base: SourceImage,
        cached: CachedLayers | None = None,
    ) -> str:
        """Push an image under *references*, and return the first one with its digest.

        Parameters
        ----------
        base
            The base image, whose layers are mounted where it is in the same registry.
        cached
            The layers of ``cache-from``. What the image adds to them is pushed if its repository is theirs.

        Raises
        ------
        RegistryError
            It can't be pushed.
        """
        pushed = []
        for name, tags in tags_by_repository(references).items():
            pushed.append(
                push_image(
                    image,
                    self.open(name),
                    tags=tags,
                    progress=self.context.progress,
                    cache=self.context.cache_folder / ANSWERS,
                    mount_from={**base.mounts(name), **(cached.mounts(name) if cached else {})},
                    present=cached.blobs if cached is not None and cached.is_in(name) else (),
                )
            )
            if cached is not None and cached.is_in(name):
                cached.push(progress=self.context.progress)
        return pushed[0].reference

    def open(self, reference: str) -> Repository:
        """Return the repository of *reference*; one registry is logged in to once."""
        context, domain = self.context, parse_reference(reference).domain
        if domain not in self._connected:
            self._connected[domain] = context.open_repository(reference)
        connection = self._connected[domain].connection
        return Repository(reference, progress=context.progress, connection=connection)
