"""Print the version of the base image's Python, such as 3.12.3; the base image is made now if need be.

The image that it is made from is named by IMAGESYNC_BASE.
"""

from __future__ import annotations

import os

from imagesync.core.terminal import make_progress
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.image.base import ensure_base
from imagesync.settings.model import DEFAULT_BASE, Settings


def main() -> None:
    """Print the version."""
    settings = Settings(base=os.environ.get("IMAGESYNC_BASE", DEFAULT_BASE))
    with Engine(find_endpoint(os.environ)) as engine:
        base = ensure_base(engine, settings=settings, progress=make_progress())
    print(base.python_version)


if __name__ == "__main__":
    main()
