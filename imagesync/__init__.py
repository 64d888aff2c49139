"""imagesync: your local Python environment becomes an OCI image, and a cluster starts from it.

>>> import imagesync
>>> session = imagesync.open_session(quiet=True)  # the active environment, with this folder's settings
>>> sorted(package.name for package in session.scan().packages if package.name == "imagesync")
['imagesync']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagesync.cluster.agreement.check import check
    from imagesync.cluster.agreement.sync import sync
    from imagesync.cluster.detached import connect
    from imagesync.cluster.docker_cluster import DockerCluster
    from imagesync.cluster.swarm.cluster import SwarmCluster
    from imagesync.errors import ImagesyncError, MismatchWarning
    from imagesync.session import Session, open_session
    from imagesync.settings.model import Settings

__all__ = [
    "DockerCluster",
    "ImagesyncError",
    "MismatchWarning",
    "Session",
    "Settings",
    "SwarmCluster",
    "check",
    "connect",
    "open_session",
    "sync",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  each name has its own type, which type checkers see above
    # At first use (PEP 562): importing the package must cost the commands nothing that they don't use.
    homes = {
        "DockerCluster": "imagesync.cluster.docker_cluster",
        "ImagesyncError": "imagesync.errors",
        "MismatchWarning": "imagesync.errors",
        "Session": "imagesync.session",
        "Settings": "imagesync.settings.model",
        "SwarmCluster": "imagesync.cluster.swarm.cluster",
        "check": "imagesync.cluster.agreement.check",
        "connect": "imagesync.cluster.detached",
        "open_session": "imagesync.session",
        "sync": "imagesync.cluster.agreement.sync",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if homes[name].startswith("imagesync.cluster."):
        from imagesync.cluster.requirement import require_dask

        require_dask()
    return getattr(import_module(homes[name]), name)
