"""Layout of the cache folder: where it is, and the name of each folder in it.

::

    <root>/blobs/sha256/<2 hex>/<64 hex>    the artifacts, each under its digest
    <root>/derived/<32 hex>.json            digests of artifacts by the inputs that they were made from
    <root>/partial/<process>.<random>       files that are being written
    <root>/locks/<name>.lock                held by one process at a time
    <root>/in-use/<process>.lock, .digests  digests that a running process uses
    <root>/answers, build-pins, code, conda-records, hashes, layers, packages, pythons, repodata, trees,
          wheel-checks
                                            cache entries, made again when they are missing
    <root>/images                           an OCI layout: built images, and base images
    <root>/logs/*.log                       the logs of builds
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.errors import StoreError

if TYPE_CHECKING:
    from typing import TypeGuard

BLOBS: Final = "blobs/sha256"
DERIVED: Final = "derived"
DERIVED_FORMAT: Final = 1
PARTIAL: Final = "partial"
LOCKS: Final = "locks"
IN_USE: Final = "in-use"
ANSWERS: Final = "answers"
"""Answers of indexes about exact versions, and of engines about base images."""
BUILD_PINS: Final = "build-pins"
"""Versions that build requirements were resolved to."""
CODE: Final = "code"
"""Digests of files in folders of loose code."""
CONDA_RECORDS: Final = "conda-records"
"""Records of conda environments."""
HASHES: Final = "hashes"
"""Environment hashes by input hash, and what wheels hold by what they were made from."""
PYTHONS: Final = "pythons"
"""Python versions of channels."""
REPODATA: Final = "repodata"
"""Repodata of channels, as rattler keeps it."""
TREES: Final = "trees"
"""Digests of files in source trees, and of installed files."""
PACKAGES: Final = "packages"
"""What is known of packages whose parts of layers are here, and of these parts."""
PACKAGES_FORMAT: Final = 1
LAYERS: Final = "layers"
"""Digests of layers and their parts by what they were made from, and the contents of base images."""
WHEEL_CHECKS: Final = "wheel-checks"
"""Which wheels uv refuses."""
LOGS: Final = "logs"
IMAGES: Final = "images"
"""An OCI layout: images that were built without an engine, and base images."""
INTERPRETERS: Final = "interpreters"
"""Builds of python-build-standalone for the images' platform, which uv installed."""

CACHES: Final = (
    *(ANSWERS, BUILD_PINS, CODE, CONDA_RECORDS, HASHES, LAYERS, PACKAGES, PYTHONS, REPODATA, TREES),
    WHEEL_CHECKS,
)
"""Folders of cache entries, which are made again when they are missing."""

READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""Errors of a cache folder that can only be read: what is in it is used all the same."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def default_cache_dir(environ: Mapping[str, str] | None = None, *, platform: str = sys.platform) -> Path:
    """Return the cache folder: ``IMAGESYNC_CACHE_DIR``, else the one that the platform has for caches."""
    environ = os.environ if environ is None else environ
    chosen = environ.get("IMAGESYNC_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    if platform == "linux":
        # As platformdirs has it, whose import is a tenth of what a hit adds to a scan (XDG Base Directory
        # Specification: a relative path doesn't count).
        base = Path(environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "imagesync"
    from platformdirs import user_cache_path

    return user_cache_path("imagesync")


def is_digest(value: object) -> TypeGuard[str]:
    """Return True if *value* is ``sha256:<hex>``."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def blob_path(root: Path, digest: str) -> Path:
    """Return the path in *root* of the file of *digest* (``sha256:<hex>``).

    Raises
    ------
    ValueError
        *digest* isn't one: what comes from an index never becomes another path.
    """
    if not is_digest(digest):
        raise ValueError(f"not a sha256 digest: {digest!r}")
    hexdigest = digest.removeprefix("sha256:")
    return root / BLOBS / hexdigest[:2] / hexdigest


@contextmanager
def store_errors(root: Path) -> Iterator[None]:
    """Raise any ``OSError`` but a time-out as a :class:`~imagesync.errors.StoreError` about *root*."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(
                f"No space is left for the artifact store in {root}.",
                hint="Free space with `imagesync cache prune`, "
                "or set IMAGESYNC_CACHE_DIR to a folder with more space.",
            ) from error
        raise StoreError(
            f"The artifact store in {root} can't be used: {error.strerror or error}"
            + (f" ({error.filename})" if error.filename else ""),
            hint="Set IMAGESYNC_CACHE_DIR to a folder that you can write to.",
        ) from error
