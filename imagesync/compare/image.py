"""The inventory of an image, read off its labels: nothing is pulled."""

from __future__ import annotations

from collections.abc import Mapping

from imagesync.compare.inventory import Inventory, from_text
from imagesync.errors import ImagesyncError
from imagesync.render import labels as label


def image_inventory_of(reference: str, *, environ: Mapping[str, str]) -> Inventory:
    """Return what an image holds, by the label that its build wrote.

    The engine is asked first, and then the registry that the reference names.

    Raises
    ------
    ImagesyncError
        There is no such image, or it says nothing about what it holds.
    EngineNotFound
        No engine answers.
    """
    labels = _labels(reference, environ=environ)
    inventory = from_text(labels.get(label.INVENTORY, ""))
    if inventory is None:
        what = "is of an earlier version of imagesync" if label.ENVIRONMENT_HASH in labels else "is not ours"
        raise ImagesyncError(
            f"{reference} doesn't say what it holds: it {what}.",
            hint="Build it anew: imagesync build. A running cluster of it can be compared as it is:"
            " imagesync diff local tcp://HOST:8786",
        )
    return inventory


def _labels(reference: str, *, environ: Mapping[str, str]) -> Mapping[str, str]:
    from imagesync.build.endpoint import find_endpoint
    from imagesync.build.engine import Engine

    with Engine(find_endpoint(environ)) as engine:
        image = engine.inspect(reference)
    if image is None:
        raise ImagesyncError(
            f"The engine has no image {reference}.",
            hint="See `docker images`; or pull it: docker pull " + reference,
        )
    return image.labels
