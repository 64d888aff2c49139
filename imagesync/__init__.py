"""imagesync: your local Python environment becomes an OCI image, and a cluster starts from it.

>>> import imagesync
>>> environment = imagesync.scan(quiet=True)  # of the interpreter that runs this
>>> sorted(package.name for package in environment.packages if package.name == "imagesync")
['imagesync']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# First: when a subpackage is imported, it takes the name of a function that is there already.
import_module("imagesync.lock")
import_module("imagesync.scan")

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.cluster.agreement.check import check
    from imagesync.cluster.agreement.sync import sync
    from imagesync.cluster.detached import connect
    from imagesync.cluster.docker_cluster import DockerCluster
    from imagesync.cluster.swarm_cluster import SwarmCluster
    from imagesync.errors import ImagesyncError, MismatchWarning
    from imagesync.image.built_image import Image
    from imagesync.lock.lock import Lock
    from imagesync.lock.lockfile.models import Selection
    from imagesync.scan.environment import Environment
    from imagesync.session import Session, open_session
    from imagesync.settings.model import Settings

__all__ = [
    "DockerCluster",
    "ImagesyncError",
    "MismatchWarning",
    "Session",
    "Settings",
    "SwarmCluster",
    "build",
    "check",
    "connect",
    "lock",
    "open_session",
    "scan",
    "sync",
]


def scan(*, python: Path | None = None, prefix: Path | None = None, quiet: bool = False) -> Environment:
    """Return the packages of an environment, and the source of each.

    Parameters
    ----------
    python, prefix, quiet
        As for :func:`open_session`.

    Raises
    ------
    ImagesyncError
        There is no environment, or it can't be read at all.
    """
    from imagesync.session import open_session

    return open_session(python=python, prefix=prefix, quiet=quiet).scan()


def lock(
    *, python: Path | None = None, prefix: Path | None = None, quiet: bool = False, **settings: object
) -> Lock:
    """Return the exact artifact of each package for the image of an environment.

    Parameters
    ----------
    python, prefix, quiet, settings
        As for :func:`open_session`.

    Raises
    ------
    ImagesyncError
        A package can't be had, or packages contradict each other.
    """
    from imagesync.session import open_session

    return open_session(python=python, prefix=prefix, quiet=quiet, **settings).lock()


def build(
    *,
    python: Path | None = None,
    prefix: Path | None = None,
    quiet: bool = False,
    tags: tuple[str, ...] = (),
    no_cache: bool = False,
    push: bool | None = None,
    locked: Path | None = None,
    selection: Selection | None = None,
    **settings: object,
) -> Image:
    """Return the image of an environment: found by its hash, or else built, checked and named.

    Parameters
    ----------
    python, prefix, quiet, settings
        As for :func:`open_session`.
    tags, no_cache, push, locked, selection
        As for :meth:`Session.build`.

    Raises
    ------
    ImagesyncError
        The environment can't be read, a package can't be had, or the engine refuses.
    """
    from imagesync.session import open_session

    session = open_session(python=python, prefix=prefix, quiet=quiet, **settings)
    return session.build(tags=tags, no_cache=no_cache, push=push, locked=locked, selection=selection)


def __getattr__(name: str) -> Any:  # noqa: ANN401  each name has its own type, which type checkers see above
    # At first use (PEP 562): importing the package must cost the commands nothing that they don't use.
    homes = {
        "DockerCluster": "imagesync.cluster.docker_cluster",
        "ImagesyncError": "imagesync.errors",
        "MismatchWarning": "imagesync.errors",
        "Session": "imagesync.session",
        "Settings": "imagesync.settings.model",
        "SwarmCluster": "imagesync.cluster.swarm_cluster",
        "check": "imagesync.cluster.agreement.check",
        "connect": "imagesync.cluster.detached",
        "open_session": "imagesync.session",
        "sync": "imagesync.cluster.agreement.sync",
    }
    if name == "errors":
        return import_module("imagesync.errors")
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if homes[name].startswith("imagesync.cluster."):
        from imagesync.cluster.container_options import require_dask

        require_dask()
    return getattr(import_module(homes[name]), name)
