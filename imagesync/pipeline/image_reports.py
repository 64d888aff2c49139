"""Reports on images wherever they are, without reading their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesync.core.image_location import parse_location
from imagesync.core.image_reference import parse_reference
from imagesync.errors import EngineNotFound, UsageError
from imagesync.image.image_report import ImageReport, image_report
from imagesync.pipeline.local_images import find_local_image, open_local_image
from imagesync.registry.config import ContainerConfig, History, ImageConfig
from imagesync.registry.manifest import LAYER, Descriptor, Index

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.pipeline.context import Context


def read_report(text: str, context: Context) -> ImageReport:
    """Return the report on an image.

    An image without a registry in its name is looked for in the cache folder, and then in the engine, if one
    answers; one with a registry there first, and then in the engine.

    Parameters
    ----------
    text
        A reference, or a location such as ``oci:DIR:TAG``.
    context
        Says where the cache folder and the engine are.

    Raises
    ------
    UsageError
        There is no such image.
    ImagesyncError
        It can't be read.
    """
    location = parse_location(text, given_as="the image")
    if location.transport == "docker-daemon":
        with context.open_engine() as engine:
            found = _from_engine(location.path, engine)
    elif location.transport != "registry":
        return _from_layout(text, context)
    elif parse_reference(text).names_registry:
        found = _from_registry(text, context) or _from_any_engine(text, context)
    elif find_local_image(text, platform=context.platform, cache=context.cache_folder) is not None:
        return _from_layout(text, context)
    else:
        found = _from_any_engine(text, context)
    if found is None:
        raise UsageError(
            f"There is no image {text}.",
            hint="Name one of `docker images`, of a registry (docker.io/ for Docker Hub), or of a layout or"
            " archive: oci:DIR:TAG.",
        )
    return found


def _from_layout(text: str, context: Context) -> ImageReport:
    with open_local_image(
        text,
        platform=context.platform,
        cache=context.cache_folder,
        progress=context.progress,
        lazy=True,
    ) as local:
        image = local.image
        documents = Index(tuple(artifact.descriptor for artifact in local.artifacts))
        return image_report(
            text,
            digest=image.digest,
            config=image.config,
            layers=image.manifest.layers,
            referrers=documents,
            is_compressed=any(layer.media_type != LAYER for layer in image.manifest.layers),
        )


def _from_registry(text: str, context: Context) -> ImageReport | None:
    with context.open_repository(text) as repository:
        found = repository.resolve(context.platform.name)
        if found is None:
            return None
        named, image = found
        referrers = repository.referrers(image.digest)
        return image_report(
            text,
            digest=named.digest,
            config=image.config,
            layers=image.manifest.layers,
            referrers=referrers,
        )


def _from_any_engine(text: str, context: Context) -> ImageReport | None:
    try:
        with context.open_engine() as engine:
            return _from_engine(text, engine)
    except EngineNotFound:
        return None


def _from_engine(text: str, engine: Engine) -> ImageReport | None:
    held = engine.inspect(text)
    if held is None:
        return None
    # An engine's history has no mark for steps without a layer, but those have no size.
    steps = [(command, size) for command, size in engine.history(text) if size]
    config = ImageConfig(
        held.platform,
        container=ContainerConfig(labels=held.labels),
        history=tuple(History(created_by=command) for command, _ in steps),
        created=held.created,
    )
    layers = [Descriptor(LAYER, "", size) for _, size in steps]
    return image_report(text, digest=held.image_id, config=config, layers=layers, is_compressed=False)
