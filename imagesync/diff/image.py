"""The inventory of an image, read off its labels: nothing is pulled."""

from __future__ import annotations

from collections.abc import Mapping

from imagesync.errors import EngineNotFound, ImagesyncError
from imagesync.image_layout import Label
from imagesync.inventory.inventory import Inventory, from_text


def read_image(reference: str, *, environ: Mapping[str, str]) -> Inventory:
    """Return what an image holds, by the label that its build wrote.

    The engine is asked first, where one answers, and then the registry that the reference names.

    Parameters
    ----------
    environ
        Environment variables, which say where the engine is.

    Raises
    ------
    ImagesyncError
        There is no such image, or it says nothing about what it holds.
    RegistryError
        The registry doesn't answer, or refuses.
    """
    labels = _labels(reference, environ=environ)
    inventory = from_text(labels.get(Label.INVENTORY, ""))
    if inventory is not None:
        return inventory
    ours = Label.ENVIRONMENT_HASH in labels
    why = "another version of imagesync built it" if ours else "it wasn't built by imagesync"
    raise ImagesyncError(
        f"{reference} doesn't say what it holds: {why}.",
        hint="Build it anew: imagesync build. A running cluster of it can be compared as it is:"
        " imagesync diff local tcp://HOST:8786",
    )


def _labels(reference: str, *, environ: Mapping[str, str]) -> Mapping[str, str]:
    from imagesync.core.image_reference import check_reference, parse_reference
    from imagesync.engine.endpoint import find_endpoint
    from imagesync.engine.engine import Engine

    check_reference(reference, given_as="image")
    parsed = parse_reference(reference)
    insecure = False
    try:
        with Engine(find_endpoint(environ)) as engine:
            image = engine.inspect(reference)
            if image is not None:
                return image.labels
            insecure = engine.takes_without_tls(parsed.domain)
    except EngineNotFound:
        # Labels in a registry can be read on a machine without an engine.
        if not parsed.names_registry:
            raise
    if parsed.names_registry:
        return _in_registry(reference, insecure=insecure)
    raise ImagesyncError(
        f"The engine has no image {reference}.",
        hint="See `docker images`. An image of a registry is named with it: registry.example.com/name:tag",
    )


def _in_registry(reference: str, *, insecure: bool) -> Mapping[str, str]:
    from imagesync.registry.registry import read_config

    remote = read_config(reference, insecure=insecure)
    if remote is None:
        raise ImagesyncError(
            f"Neither the engine nor the registry has an image {reference}.",
            hint="See `docker images`, and whether it was pushed: imagesync build --push",
        )
    return remote.labels
