"""The file names of artifacts, the wheel tags of a target, and the artifact that fits it best."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from imagesync.core.credentials import strip_credentials
from imagesync.errors import LockError
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact

if TYPE_CHECKING:
    from packaging.tags import Tag

# Platform names from before PEP 600, by glibc 2 minor version.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def filename_of(url: str, filename: str = "") -> str:
    """Return *filename*, or else the last part of the path of *url*.

    Raises
    ------
    LockError
        It isn't the name of a file in a folder.
    """
    name = filename or unquote(urlsplit(url).path.rpartition("/")[2])
    if not name.isprintable() or re.search(r"[/\\]", name) or name.startswith("-") or name in ("", ".", ".."):
        raise LockError(
            f"The URL {strip_credentials(url)} has the file name {name!r}, which is none.",
            hint="Correct the URL where it comes from: the index, the channel or the lock file.",
        )
    return name


def target_tags(target: Target) -> tuple[Tag, ...]:
    """Return the wheel tags that *target* supports, best first (PEP 425, PEP 600).

    >>> from imagesync.core.platforms import LINUX_AMD64
    >>> tags = target_tags(Target(LINUX_AMD64, "3.11.2", (2, 36)))
    >>> str(tags[0]), str(tags[-1])
    ('cp311-cp311-manylinux_2_36_x86_64', 'py30-none-any')
    """
    from packaging.tags import compatible_tags, cpython_tags

    major, minor = (int(part) for part in target.minor.split("."))
    interpreter = f"cp{major}{minor}"
    platforms = target_platforms(target)
    return (
        *cpython_tags((major, minor), abis=[interpreter], platforms=platforms),
        *compatible_tags((major, minor), interpreter=interpreter, platforms=platforms),
    )


def target_platforms(target: Target) -> list[str]:
    """Return the platforms of *target* as in wheel tags, best first."""
    return list(_platforms(target))


def _platforms(target: Target) -> Iterator[str]:
    name = target.platform.machine
    major, minor = target.glibc
    for glibc in range(minor, target.platform.oldest_glibc - 1, -1):
        yield f"manylinux_{major}_{glibc}_{name}"
        if glibc in _LEGACY:
            yield f"{_LEGACY[glibc]}_{name}"
    yield f"linux_{name}"


def best_artifact(artifacts: Iterable[Artifact], target: Target) -> Artifact | None:
    """Return the wheel that fits *target* best, else the sdist, else ``None``.

    Among wheels of the same tag the one with the highest build number wins (PEP 427), as with pip.
    """
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    ranks = {tag: rank for rank, tag in enumerate(target_tags(target))}
    sdist: Artifact | None = None
    best: tuple[tuple[int, tuple[int, str] | tuple[()]], Artifact] | None = None
    for artifact in artifacts:
        if not artifact.is_wheel:
            sdist = sdist or artifact
            continue
        try:
            _, _, build, tags = parse_wheel_filename(artifact.filename)
        except InvalidWheelFilename:
            continue
        fitting = [ranks[tag] for tag in tags if tag in ranks]
        if fitting:
            key = (-min(fitting), build)
            if best is None or key > best[0]:
                best = (key, artifact)
    return best[1] if best is not None else sdist
