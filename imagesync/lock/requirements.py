"""The lock as hashed requirements, for pip and uv alike."""

from __future__ import annotations

from imagesync.lock.lock import Lock
from imagesync.lock.resolve_installed import pin


def render_requirements(lock: Lock) -> str:
    """Return a requirements file of the packages from indexes, each with its one digest.

    ``pip install --no-deps --require-hashes -r`` takes it, and so does uv. Vendored packages
    aren't on any index, and so aren't in it.
    """
    return "".join(
        f"{pin(package.name, package.version)} \\\n    --hash={package.artifact.digest}\n"
        for package in lock.packages
    )
