"""py-rattler as an image of the engine: 80 MB that builds mount, and that no build has to send again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine
    from imagesync.image.conda.installer import CondaInstaller

INSTALLER_REPOSITORY: Final = "imagesync-installer"
_TAG_DIGITS: Final = 16
_DOCKERFILE: Final = """\
FROM scratch
COPY rattler /rattler
LABEL org.opencontainers.image.title="py-rattler, which installs conda packages while images are built"
"""


def with_image(engine: Engine, installer: CondaInstaller, *, progress: Progress) -> CondaInstaller:
    """Return what installs as an image of the engine, which is made where it isn't there yet.

    One that takes few bytes, as micromamba does, is returned as it is.

    Raises
    ------
    BuildError
        The engine can't make it.
    """
    if not installer.rattler:
        return installer
    reference = f"{INSTALLER_REPOSITORY}:{_identity(installer)}"
    if engine.inspect(reference) is None:
        from imagesync.engine.engine import BuildRequest
        from imagesync.image.context import ContextFile, stream_files

        progress.line(f"Making {reference}, which installs conda packages in builds, once")
        content = _DOCKERFILE.encode()
        files = (
            ContextFile("Dockerfile", content, len(content)),
            *(ContextFile(f"rattler/{name}", path, path.stat().st_size) for name, path in installer.rattler),
        )
        request = BuildRequest(network="none")
        engine.tag(engine.build(stream_files(files), request, progress=progress), reference)
    return replace(installer, image=reference)


def _identity(installer: CondaInstaller) -> str:
    """Return what tells a version of py-rattler from others; its files are too long to be read for that."""
    from importlib.metadata import version

    sizes = [(name, path.stat().st_size) for name, path in installer.rattler]
    inputs = json.dumps([_DOCKERFILE, version("py-rattler"), sizes])
    return hashlib.sha256(inputs.encode()).hexdigest()[:_TAG_DIGITS]
