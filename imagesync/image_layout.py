"""The layout of an image: its paths, labels and tags, and the base image, as several rooms use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from imagesync.core.digests import sha256_of_json

PREFIX: Final = PurePosixPath("/opt/env")
HOME: Final = PurePosixPath("/home/imagesync")
USER: Final = "1000:1000"
INVENTORY: Final = PREFIX / "share" / "imagesync" / "environment.json"
CODE: Final = PREFIX / "code"
PYTHON: Final = PREFIX / "bin" / "python"
_RESERVED: Final = (PREFIX, *map(PurePosixPath, ("/proc", "/sys", "/dev")))
TAG_DIGITS: Final = 16
LAYER_CONTENTS: Final = "dev.imagesync.contents"
"""Annotation of a layer: a JSON object of its packages and the bytes that each takes of it."""


def site_packages(minor: str) -> PurePosixPath:
    """Return the site-packages folder of the image.

    Parameters
    ----------
    minor
        The feature version, such as ``3.12``.

    >>> str(site_packages("3.12"))
    '/opt/env/lib/python3.12/site-packages'
    """
    return PREFIX / "lib" / f"python{minor}" / "site-packages"


def is_reserved(path: str) -> bool:
    """Return True if the absolute *path* is the environment's or the kernel's, or lies there.

    >>> is_reserved("/opt/env/lib"), is_reserved("//opt/./env"), is_reserved("/opt/other")
    (True, True, False)
    """
    # POSIX, and so pathlib, takes two slashes at the beginning for another root.
    place = PurePosixPath("/" + path.lstrip("/"))
    return any(place.is_relative_to(folder) for folder in _RESERVED)


class Label:
    """The names of imagesync's image labels: a build writes them, and later builds read them."""

    ENVIRONMENT_HASH: Final = "dev.imagesync.environment-hash"
    INPUT_HASH: Final = "dev.imagesync.input-hash"
    ARTIFACTS: Final = "dev.imagesync.artifacts"
    COMPILED: Final = "dev.imagesync.compiled"
    LAYER_FORM: Final = "dev.imagesync.layer-form"
    VERIFIED_IMPORTS: Final = "dev.imagesync.verified-imports"
    LOCK_DIGEST: Final = "dev.imagesync.lock-digest"
    VERSION: Final = "dev.imagesync.version"
    DEVIATIONS: Final = "dev.imagesync.deviations"
    REPACKED: Final = "dev.imagesync.repacked"
    FILE_CONFLICTS: Final = "dev.imagesync.contested"
    SHARED_CONDA_FILES: Final = "dev.imagesync.shared-conda-files"
    PACKAGES_HASH: Final = "dev.imagesync.packages-hash"
    PACKAGES_INPUT_HASH: Final = "dev.imagesync.packages-input-hash"
    PACKAGES_LOCK: Final = "dev.imagesync.packages-lock"
    INVENTORY: Final = "dev.imagesync.inventory"
    ARCHIVES: Final = "dev.imagesync.archives"
    BASE: Final = "dev.imagesync.base"
    BASE_HASH: Final = "dev.imagesync.base-hash"


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
        The reference of the image with Python: ``imagesync-base:<16 hex digits of base_hash>``.
    root
        The root image, as the user named it, such as ``ubuntu:24.04``.
    digest
        The digest of the root image, ``sha256:<hex>``; empty if it isn't known.
    image_id
        The ID of the base image, ``sha256:<hex>``; empty if no engine has it.
    python_version
        The version of the interpreter with its patch level, such as ``3.12.3``; ``3.12`` if only that is
        known, empty if nothing is.
    python_executable
        The path of the interpreter in the image.
    glibc
        The version of the C library, such as ``(2, 39)``.
    base_hash
        ``sha256:<hex>`` over the root image, ``Dockerfile.base``, the system packages and *toolchain*.
    apt
        The system packages that the settings name.
    pinned
        The root image by its digest, if its registry was asked.
    toolchain
        Whether it has a compiler, so that it is all three stages of ``Dockerfile.base`` at once.
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
    pinned: str = ""
    toolchain: bool = False

    @property
    def minimal(self) -> str:
        """Return the reference of the image without Python, for environments that bring their own."""
        return self.reference if self.toolchain else f"{self.reference}-minimal"

    @property
    def for_wheels(self) -> str:
        """Return the reference of the image with a compiler, which wheels are built in."""
        return self.reference if self.toolchain else f"{self.reference}-build"

    @property
    def identity(self) -> str:
        """Return the root image's part of hashes: its digest, or its name if the digest isn't known."""
        return self.digest or self.root

    @property
    def minor(self) -> str:
        """Return the interpreter's feature version, such as ``3.12``."""
        return ".".join(self.python_version.split(".")[:2])


class CopiedFile(NamedTuple):
    """A file of the user's that goes into the image as it is, owned by root.

    Parameters
    ----------
    path
        Its absolute path in the image.
    source
        The file on this machine.
    size
        In bytes.
    executable
        Whether its owner may execute it: its mode is 755, else 644.
    sha256
        Of its bytes, in hexadecimal. A build refuses the file if it has changed since.
    """

    path: str
    source: str
    size: int
    executable: bool = False
    sha256: str = ""


@dataclass(frozen=True)
class CopiedFiles:
    """An entry of the setting ``files``: one file, or those of a folder.

    Parameters
    ----------
    target
        The absolute path of the file or folder in the image.
    files
        The files, sorted by path; that of a single file is *target*.
    digest
        ``sha256:<hex>`` over names, executable bits and bytes.
    """

    target: str
    files: tuple[CopiedFile, ...]
    digest: str


@dataclass(frozen=True)
class ImageOptions:
    """What the user's settings say of an image besides its packages.

    Parameters
    ----------
    env
        Variables of the image's processes, besides those of the environment.
    labels
        Labels of the user's own.
    cmd
        The command that runs where none is given.
    workdir
        The working directory, absolute; made for *user* if it is missing.
    user
        The user of the image's processes, as in a Dockerfile: ``1000:1000``, or a name.
    files
        Files that are copied into the image, above the packages.
    run
        Commands of a shell that run as root after everything else is in place.
    run_network
        Whether these commands have a network.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cmd: tuple[str, ...] = ("python",)
    workdir: str = str(HOME)
    user: str = USER
    files: tuple[CopiedFiles, ...] = ()
    run: tuple[str, ...] = ()
    run_network: bool = False

    @property
    def account(self) -> Mapping[str, str]:
        """Return the variables that say whose processes they are; an account by number has a name of ours.

        >>> ImageOptions(user="app:staff").account
        {'HOME': '/home/imagesync', 'USER': 'app'}
        """
        name = self.user.partition(":")[0]
        return {"HOME": str(HOME), "USER": "imagesync" if name.isdecimal() else name}

    @property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` over all that reaches the image; empty for the defaults."""
        if self == ImageOptions():
            return ""
        covered = asdict(self)
        covered["files"] = [[entry.target, entry.digest] for entry in self.files]
        return sha256_of_json(covered)
