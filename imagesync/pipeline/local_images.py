"""Images that were built without an engine: in the layout of the cache folder, or in layouts and archives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.image_location import ImageLocation, parse_location
from imagesync.core.image_reference import (
    check_reference,
    is_reference,
    parse_reference,
    repository_of,
    split_reference,
)
from imagesync.core.platforms import find_platform, require_platform
from imagesync.errors import LayoutError, UsageError
from imagesync.registry.archive import ImageArchive
from imagesync.registry.artifacts import Artifact, layout_artifacts, push_artifact
from imagesync.registry.image_source import LayoutSource, SourceImage, open_image, resolve_entry
from imagesync.registry.manifest import BASE_DIGEST, BASE_NAME, INDEXES, Descriptor, Index, parse_manifest
from imagesync.registry.oci_image import OCIImage, read_document
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import Pushed, push_image, push_index
from imagesync.store.layout import ANSWERS, IMAGES

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.core.progress import Progress
    from imagesync.pipeline.context import Context
    from imagesync.registry.repository import Repository


@dataclass(frozen=True)
class LocalImage:
    """An image outside of registries and engines.

    Parameters
    ----------
    image
        All of its layers can be read: those that aren't here from the registry of its base.
    name
        Its name: a reference with a tag, or only a tag; empty if it has none.
    base
        The image that it is built on, if layers of that aren't here.
    artifacts
        The documents about it.
    """

    image: OCIImage
    name: str
    base: SourceImage | None
    artifacts: tuple[Artifact, ...] = ()


@contextmanager
def open_local_image(
    text: str, *, platform: Platform, cache: Path, progress: Progress, lazy: bool = False
) -> Iterator[LocalImage]:
    """Give a local image, whose layers can be read inside the block.

    Parameters
    ----------
    text
        The name of an image in the cache folder's layout, or a location such as ``oci:DIR:TAG``.
    platform
        The platform to choose from an index.
    cache
        The cache folder.
    progress
        Gets warnings.
    lazy
        Whether layers aren't going to be read, so that the registry of the base needn't be asked.

    Raises
    ------
    UsageError
        There is no such image.
    LayoutError
        It can't be used.
    """
    location = parse_location(text, given_as="the image")
    kept = ImageLayout(cache / IMAGES, is_cache=True)
    with ExitStack() as stack:
        if location.transport == "registry":
            image = _from_cache(text, kept, platform, cache)
            artifacts = tuple(layout_artifacts(kept, image.digest))
            base = None if lazy else _base(image, platform, kept, progress, stack)
            if base is not None:
                image = replace(image, layers=_Layers(kept, base))
            yield LocalImage(image, ":".join(split_reference(text)), base, artifacts)
        elif location.transport == "docker-daemon":
            raise UsageError(
                f"{location.path} is an engine's.", hint=f"The engine pushes it: docker push {location.path}"
            )
        else:
            found = stack.enter_context(
                open_image(location, platform=platform.name, kept=kept, progress=progress)
            )
            name = location.name
            # Names in Docker's archives are references, in layouts they are tags as a rule.
            if name and location.transport == "docker-archive":
                name = ":".join(split_reference(name))
            yield LocalImage(found.image, name, None)


def push_local_image(text: str, target: str, *, context: Context) -> Pushed:
    """Push a local image, and the documents about it.

    Parameters
    ----------
    text
        As for :func:`open_local_image`.
    target
        The reference to push to; empty for *text* itself, or else for the setting ``repository``. It must
        name a registry.

    Raises
    ------
    UsageError
        There is no such image, or *target* names no registry.
    RegistryError
        It can't be pushed.
    """
    index = _index_of(text, context.cache_folder)
    if index is not None and index.platforms:
        return _push_index(index, text, target, context)
    cache, progress = context.cache_folder, context.progress
    with open_local_image(text, platform=context.platform, cache=cache, progress=progress) as local:
        reference = push_target(target, local.name, repository=context.settings.repository)
        _, tag = split_reference(reference)
        with context.open_repository(reference) as repository:
            mounts = _mounts(local, repository)
            pushed = push_image(
                local.image,
                repository,
                tags=[tag],
                progress=progress,
                cache=cache / ANSWERS,
                mount_from=mounts,
            )
            for artifact in local.artifacts:
                push_artifact(artifact, repository, progress=progress)
    return pushed


def _push_index(index: Index, text: str, target: str, context: Context) -> Pushed:
    """Push the images of an index by their digests, and then the index."""
    cache, progress = context.cache_folder, context.progress
    sent = mounted = 0
    was_there, reference = True, ""
    for platform in map(require_platform, index.platforms):
        with open_local_image(text, platform=platform, cache=cache, progress=progress) as local:
            reference = push_target(target, local.name, repository=context.settings.repository)
            with context.open_repository(reference) as repository:
                mounts = _mounts(local, repository)
                pushed = push_image(local.image, repository, tags=(), progress=progress, mount_from=mounts)
                for artifact in local.artifacts:
                    push_artifact(artifact, repository, progress=progress)
            sent, mounted = sent + pushed.sent, mounted + pushed.mounted
            was_there &= pushed.was_there
    with context.open_repository(reference) as repository:
        pinned = push_index(index, repository, tags=[split_reference(reference)[1]], progress=progress)
    return Pushed(pinned, sent, mounted, was_there)


def _mounts(local: LocalImage, repository: Repository) -> dict[str, str]:
    """Return where layers can be mounted from: the base's repository, if it is in the same registry.

    It has only the layers of the base. For the others the attempt begins the upload that they need anyway.
    """
    if local.base is not None:
        return local.base.mounts(repository.name)
    name = local.image.manifest.annotations.get(BASE_NAME, "")
    base = parse_reference(name) if is_reference(name) else None
    if base is None or not base.names_registry or not base.is_beside(repository.reference):
        return {}
    return {layer.digest: base.path for layer in local.image.manifest.layers}


def push_target(target: str, name: str, *, repository: str) -> str:
    """Return the reference to push an image to.

    Parameters
    ----------
    target
        As the user wrote it; if it is empty, *name* or else the setting *repository* says where to.
    name
        The image's own name, whose tag it keeps: a reference, or only a tag as in layouts; may be empty.

    Raises
    ------
    UsageError
        There is no registry to push to, or *target* or the tag can't be one.

    >>> push_target("registry.example.com/team/env", "imagesync:abc", repository="imagesync")
    'registry.example.com/team/env:abc'
    >>> push_target("", "imagesync:abc", repository="registry.example.com/env")
    'registry.example.com/env:abc'
    >>> push_target("", "v1.0", repository="registry.example.com/env")
    'registry.example.com/env:v1.0'
    """
    is_tag = bool(name) and ":" not in name and "/" not in name
    _, tag = ("", name) if is_tag else split_reference(name)
    if "@" in target:
        raise UsageError(f"{target} has a digest, and an image is pushed under a tag.")
    there = target or ("" if is_tag else name)
    if there and parse_reference(there).names_registry:
        pushed = f"{repository_of(there)}:{parse_reference(there).tag or tag}"
    elif not target and parse_reference(repository).names_registry:
        pushed = f"{repository}:{tag}"
    else:
        raise UsageError(
            f"{target or 'The image'} names no registry to push to.",
            hint="Name one: imagesync push IMAGE registry.example.com/team/NAME; or set `repository`.",
        )
    check_reference(pushed, given_as="TARGET" if target else "IMAGE", tag=True)
    return pushed


class _Layers:
    """Layers of an image in a layout, or else of its base."""

    def __init__(self, kept: ImageLayout, base: SourceImage) -> None:
        self._kept = kept
        self._base = base
        self._of_base = {layer.digest for layer in base.image.manifest.layers}

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        if descriptor.digest in self._of_base and not self._kept.has(descriptor):
            yield from self._base.image.layers.read(descriptor)
        else:
            yield from self._kept.read(descriptor)


def find_local_image(text: str, *, platform: Platform, cache: Path) -> OCIImage | None:
    """Return an image in the cache folder's layout by its name, or ``None``; that of *platform* of an index.

    Raises
    ------
    LayoutError
        It can't be used.
    """
    kept = ImageLayout(cache / IMAGES, is_cache=True)
    entry = _entry(text, kept)
    if entry is None:
        return None
    kept.touch(entry)
    return resolve_entry(kept, entry, text, platform.name).image


def _entry(text: str, kept: ImageLayout) -> Descriptor | None:
    index = kept.index()
    return index.find(text) or index.find(":".join(split_reference(text)))


def _index_of(text: str, cache: Path) -> Index | None:
    """Return the index that *text* names, if all its images are for platforms that imagesync knows."""
    location = parse_location(text, given_as="the image")
    with ExitStack() as stack:
        if location.transport == "registry":
            source: LayoutSource = ImageLayout(cache / IMAGES, is_cache=True)
            entry = _entry(text, ImageLayout(cache / IMAGES))
        elif location.transport in ("oci", "oci-archive"):
            path = Path(location.path)
            is_folder = location.transport == "oci"
            source = ImageLayout(path) if is_folder else stack.enter_context(ImageArchive(path))
            entry = source.index().find(location.name)
        else:
            return None
        if entry is None or entry.media_type not in INDEXES:
            return None
        try:
            found = parse_manifest(read_document(entry, source))
        except ValueError:
            return None
    if not isinstance(found, Index) or None in map(find_platform, found.platforms):
        return None
    return found


def _from_cache(text: str, kept: ImageLayout, platform: Platform, cache: Path) -> OCIImage:
    found = find_local_image(text, platform=platform, cache=cache)
    if found is None:
        # Base images have names with a blank or a plus in them.
        names = [known for known in kept.index().names if " " not in known and "+" not in known]
        there = f"it has {', '.join(names[-5:])}" if names else "it has no images yet"
        raise UsageError(
            f"There is no image {text} in {kept.root}: {there}.",
            hint="`imagesync build --builder oci` makes one. `docker push` pushes those of an engine.",
        )
    return found


def _base(
    image: OCIImage, platform: Platform, kept: ImageLayout, progress: Progress, stack: ExitStack
) -> SourceImage | None:
    """Return the image's base from its registry, if layers of it aren't here."""
    missing = [layer for layer in image.manifest.layers if not kept.has(layer)]
    if not missing:
        return None
    name, digest = (image.manifest.annotations.get(key, "") for key in (BASE_NAME, BASE_DIGEST))
    location = parse_location(name, given_as="the base image") if name else None
    if location is None or location.transport != "registry" or not digest:
        raise LayoutError(
            f"The layer {missing[0].digest} of the image isn't in {kept.root}.", hint="Build the image again."
        )
    pinned = ImageLocation("registry", f"{repository_of(location.path)}@{digest}")
    return stack.enter_context(open_image(pinned, platform=platform.name, kept=kept, progress=progress))
