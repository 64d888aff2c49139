"""What several rooms agree on about images: paths in the image, labels, tags, and the base image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

PREFIX: Final = PurePosixPath("/opt/env")
HOME: Final = PurePosixPath("/home/imagesync")
USER: Final = "1000:1000"
INVENTORY: Final = PREFIX / "share" / "imagesync" / "environment.json"
CODE: Final = PREFIX / "code"
PYTHON: Final = PREFIX / "bin" / "python"
TAG_DIGITS: Final = 16


def site_packages(minor: str) -> PurePosixPath:
    """Return the folder of the image's packages.

    Parameters
    ----------
    minor
        The feature version, such as ``3.12``.

    >>> str(site_packages("3.12"))
    '/opt/env/lib/python3.12/site-packages'
    """
    return PREFIX / "lib" / f"python{minor}" / "site-packages"


class Label:
    """The names of imagesync's own image labels, which one build writes and the next one reads."""

    ENVIRONMENT_HASH: Final = "dev.imagesync.environment-hash"
    LOCK_DIGEST: Final = "dev.imagesync.lock-digest"
    VERSION: Final = "dev.imagesync.version"
    DEVIATIONS: Final = "dev.imagesync.deviations"
    REPACKED: Final = "dev.imagesync.repacked"
    FILE_CONFLICTS: Final = "dev.imagesync.contested"
    PACKAGES_HASH: Final = "dev.imagesync.packages-hash"
    PACKAGES_LOCK: Final = "dev.imagesync.packages-lock"
    INVENTORY: Final = "dev.imagesync.inventory"
    ARCHIVES: Final = "dev.imagesync.archives"
    BASE: Final = "dev.imagesync.base"


def image_tag(digest: str) -> str:
    """Return the tag that an environment hash gives an image: its first 16 hex digits.

    >>> image_tag("sha256:" + "ab" * 32)
    'abababababababab'
    """
    return digest.removeprefix("sha256:")[:TAG_DIGITS]


@dataclass(frozen=True)
class BaseImage:
    """An image with an interpreter, ready for an environment to be put on it.

    Parameters
    ----------
    reference
        What a Dockerfile's ``FROM`` names: ``imagesync-base:<16 hex digits of base_hash>``.
    root
        The image that it was made from, as the user named it, such as ``ubuntu:24.04``.
    digest
        Of the root image, ``sha256:<hex>``.
    image_id
        ``sha256:<hex>``.
    python_version
        With its patch level, such as ``3.12.3``.
    python_executable
        Its path in the image.
    glibc
        Such as ``(2, 39)``.
    base_hash
        ``sha256:<hex>`` over what it was made from.
    apt
        The system packages that the user asked for.
    """

    reference: str
    root: str
    digest: str
    image_id: str
    python_version: str
    python_executable: str
    glibc: tuple[int, int]
    base_hash: str
    apt: tuple[str, ...] = ()

    @property
    def minor(self) -> str:
        """Return the interpreter's feature version, such as ``3.12``."""
        return ".".join(self.python_version.split(".")[:2])
