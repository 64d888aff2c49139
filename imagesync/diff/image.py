"""The inventory of an image, from its labels: nothing is pulled."""

from __future__ import annotations

from collections.abc import Mapping

from imagesync.errors import EngineNotFound, ImagesyncError
from imagesync.image_layout import Label
from imagesync.inventory.inventory import Inventory, from_text


def read_image(reference: str, *, environ: Mapping[str, str]) -> Inventory:
    """Return the inventory of an image, from the label that its build wrote.

    The image is looked up in the engine, if one answers, and then in the registry that the reference names.

    Parameters
    ----------
    reference
        Reference of the image.
    environ
        Environment variables, by which the engine is found.

    Raises
    ------
    ImagesyncError
        The image doesn't exist or has no readable inventory.
    RegistryError
        The registry refuses or doesn't answer.
    """
    labels = _labels(reference, environ=environ)
    inventory = from_text(labels.get(Label.INVENTORY, ""))
    if inventory is not None:
        return inventory
    built_here = Label.ENVIRONMENT_HASH in labels
    why = "another version of imagesync built it" if built_here else "it wasn't built by imagesync"
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
        # A registry can be read without an engine.
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
