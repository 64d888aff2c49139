"""What the step of conda packages mounts from images of the engine, and needn't get with each context."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.errors import EngineError
from imagesync.image.conda.archive_images import archive_images
from imagesync.image.conda.installer_image import with_image

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine
    from imagesync.image.conda.layer import CondaLayer


def with_mounts(engine: Engine, layer: CondaLayer, *, progress: Progress) -> CondaLayer:
    """Return the layer with py-rattler, the archives and their bytecode in images, which are made if need be.

    For Podman it is returned as it is: nobody has seen yet whether that may do as Docker does. An engine that
    doesn't take archives, as behind a proxy that permits builds and little else, gets them with the context.

    Raises
    ------
    BuildError
        The engine can't make the image of py-rattler.
    """
    if engine.info().name == "Podman":
        return layer
    layer = replace(layer, installer=with_image(engine, layer.installer, progress=progress))
    try:
        return replace(layer, images=archive_images(engine, layer, progress=progress))
    except EngineError as error:
        progress.line(f"Conda packages are sent with the build, and each time. {error.message}")
        return layer
