"""The image that a cluster's containers run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesync.core.terminal import make_progress

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint
    from imagesync.session import Session


def cluster_image(image: str | None, session: Session | None, endpoint: Endpoint) -> str:
    """Return the reference of an image that the engine has.

    Parameters
    ----------
    image
        What the user named, pulled if it is missing; ``None`` for that of an environment.
    session
        Which environment; by default the one that this process runs in.

    Raises
    ------
    ImagesyncError
        It can't be built or pulled.
    """
    if image is None:
        from imagesync.session import open_session

        session = session or open_session()
        # Here, where the containers run; an image that is only in a registry would not do.
        return session.build(push=False).reference
    from imagesync.engine.engine import Engine

    with Engine(endpoint) as engine:
        if engine.inspect(image) is None:
            engine.pull(image, progress=make_progress(quiet=False))
    return image
