"""Well-known base images: which Python and which C library they have."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OLDEST_PYTHON: Final = (3, 10)
"""The oldest Python that a base image may have for an environment without conda's."""


class Release(NamedTuple):
    """A release of a distribution.

    Parameters
    ----------
    python
        What ``apt-get install python3`` installs.
    base
        The image to recommend for this Python.
    """

    distribution: str
    version: str
    codename: str
    glibc: tuple[int, int]
    python: str
    base: str


RELEASES: Final = (
    Release("ubuntu", "22.04", "jammy", (2, 35), "3.10.12", "ubuntu:22.04"),
    Release("ubuntu", "24.04", "noble", (2, 39), "3.12.3", "ubuntu:24.04"),
    Release("ubuntu", "26.04", "resolute", (2, 43), "3.14.4", "ubuntu:26.04"),
    Release("debian", "11", "bullseye", (2, 31), "3.9.2", "debian:bullseye-slim"),
    Release("debian", "12", "bookworm", (2, 36), "3.11.2", "debian:bookworm-slim"),
    Release("debian", "13", "trixie", (2, 41), "3.13.5", "debian:trixie-slim"),
)
# A tag of a feature version and no codename, such as 3.12-slim, moves on with Debian's stable release.
# Source: https://github.com/docker-library/official-images/blob/master/library/python
_STABLE = "trixie"
_ON_STABLE = frozenset({"3.10", "3.11", "3.12", "3.13", "3.14", "3.15"})
_HUB = re.compile(r"^((index\.)?docker\.io/)?(library/)?")
_MINOR = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
_PYTHON_TAG = re.compile(r"(?P<version>3\.\d+(\.\d+)?)(-slim)?(-(?P<codename>[a-z]+))?")


class WellKnown(NamedTuple):
    """The properties of an image that follow from its name.

    Parameters
    ----------
    python
        With its patch level where the name or the release fixes it; empty where it isn't known.
    glibc
        ``None`` where it isn't known.
    release
        In words, such as ``Debian trixie``; empty where it isn't known.
    executable
        The interpreter's path in the image.
    """

    python: str
    glibc: tuple[int, int] | None
    release: str
    executable: str


def find_release(distribution: str, name: str) -> Release | None:
    """Return a release by its version or codename, or ``None``."""
    return next((r for r in RELEASES if r.distribution == distribution and name in r[1:3]), None)


def well_known(reference: str) -> WellKnown | None:
    """Return the Python and the C library of *reference*, an image on Docker Hub, or ``None``.

    >>> well_known("ubuntu:24.04")
    WellKnown(python='3.12.3', glibc=(2, 39), release='Ubuntu 24.04', executable='/usr/bin/python3')
    >>> well_known("python:3.12-slim")
    WellKnown(python='3.12', glibc=(2, 41), release='Debian trixie', executable='/usr/local/bin/python3')
    >>> well_known("python:3.12.1").glibc is None  # bookworm was stable then
    True
    >>> well_known("registry.example.com/ubuntu:24.04") is None
    True
    """
    repository, _, tag = _HUB.sub("", reference.partition("@")[0]).partition(":")
    if repository == "python":
        return _official_python(tag)
    release = find_release(repository, tag.removesuffix("-slim") if repository == "debian" else tag)
    if release is None:
        return None
    return WellKnown(release.python, release.glibc, _words(release), "/usr/bin/python3")


def well_known_minor(reference: str) -> str | None:
    """Return the feature version of Python in a well-known image, ``None`` for any other.

    >>> well_known_minor("python:3.13-slim"), well_known_minor("example.com/mine:1")
    ('3.13', None)
    """
    found = well_known(reference)
    return None if found is None else ".".join(found.python.split(".")[:2])


def _official_python(tag: str) -> WellKnown | None:
    match = _PYTHON_TAG.fullmatch(tag)
    if match is None:
        return None
    codename = match["codename"] or (_STABLE if match["version"] in _ON_STABLE else "")
    release = find_release("debian", codename)
    if release is None:
        return None if match["codename"] else WellKnown(match["version"], None, "", "/usr/local/bin/python3")
    return WellKnown(match["version"], release.glibc, _words(release), "/usr/local/bin/python3")


def _words(release: Release) -> str:
    if release.distribution == "ubuntu":
        return f"Ubuntu {release.version}"
    return f"Debian {release.codename}"


def is_supported(minor: str) -> bool:
    """Return True if a base image may have Python *minor*, or if *minor* isn't known.

    >>> is_supported("3.10"), is_supported("3.8"), is_supported("")
    (True, False, True)
    """
    return not minor or tuple(int(part) for part in minor.split(".")) >= OLDEST_PYTHON


def bases_with(minor: str) -> tuple[str, ...]:
    """Return images that have Python *minor*, distributions first; none for a Python too old or unknown.

    >>> bases_with("3.11"), bases_with("3.8")
    (('debian:bookworm-slim', 'python:3.11-slim'), ())
    """
    if not _MINOR.fullmatch(minor) or not is_supported(minor):
        return ()
    distributions = (release.base for release in RELEASES if release.python.startswith(f"{minor}."))
    return (*distributions, f"python:{minor}-slim")


def base_hint(minor: str) -> str:
    """Return the hint for a base image whose Python isn't *minor*, or is too old where *minor* is empty."""
    if bases := bases_with(minor):
        return f"Use a base image with Python {minor}: " + ", or ".join(f"--base {image}" for image in bases)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if not minor:
        return f"Name a base image with Python {oldest} or later, such as --base {RELEASES[1].base}"
    return (
        f"No base image fits, because its own Python must be {oldest} or later: take Python {minor} from a"
        " conda channel (IMAGESYNC_PYTHON=conda)."
    )
