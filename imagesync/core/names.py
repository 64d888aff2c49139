"""Names of distributions in canonical form, patterns for them, and the levels that settings give them.

``packaging.utils`` knows the canonical form, too, but importing it takes as long as a whole scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

MOST_LETTERS = 200
"""Of a name or a version: they become parts of file names, which may have 255 bytes."""
_VALID_NAME = re.compile(r"[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?", re.IGNORECASE | re.ASCII)
_CONDA_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.!+-]*")
_SEPARATORS = re.compile(r"[-_.]+")
# Matches most versions; packaging parses the rest.
_PLAIN_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?")


class Level(str, Enum):
    """How closely a package in the image must match the local one."""

    CRITICAL = "critical"
    EXACT = "exact"
    NEAREST = "nearest"
    COMPATIBLE = "compatible"
    PLATFORM_ONLY = "platform-only"
    IGNORE = "ignore"
    IGNORE_UNLESS_REQUESTED = "ignore-unless-requested"

    @property
    def is_pinned(self) -> bool:
        """Return True if the specifier of a package names the local version alone."""
        return self in (Level.CRITICAL, Level.EXACT, Level.NEAREST)


def is_valid_name(name: str) -> bool:
    """Return True if *name* may name a distribution (core metadata specification, ``Name``)."""
    return len(name) <= MOST_LETTERS and _VALID_NAME.fullmatch(name) is not None


def is_valid_conda_part(text: str) -> bool:
    """Return True if *text* may be the name, the version or the build of a conda package."""
    return len(text) <= MOST_LETTERS and _CONDA_PART.fullmatch(text) is not None


def canonical_name(name: str) -> NormalizedName:
    """Return the canonical form of *name* (PEP 503).

    >>> canonical_name("Jinja2"), canonical_name("ruamel.yaml_clib")
    ('jinja2', 'ruamel-yaml-clib')
    """
    return cast("NormalizedName", _SEPARATORS.sub("-", name).lower())


def is_valid_version(version: str) -> bool:
    """Return True if *version* is a version in the sense of PEP 440.

    >>> is_valid_version("1.4.3"), is_valid_version("2.1+cu121"), is_valid_version("2004d-final")
    (True, True, False)
    """
    if len(version) > MOST_LETTERS:
        return False
    if _PLAIN_VERSION.fullmatch(version):
        return True
    from packaging.version import InvalidVersion, Version

    try:
        Version(version)
    except InvalidVersion:
        return False
    return True


def is_same_version(one: str, other: str) -> bool:
    """Return True if two versions are equal (PEP 440); where it doesn't apply, if they are written alike.

    >>> is_same_version("1.0", "1.0.0"), is_same_version("2004d-final", "2004d")
    (True, False)
    """
    from packaging.version import InvalidVersion, Version

    try:
        return one == other or Version(one) == Version(other)
    except InvalidVersion:
        return False


def canonical_pattern(text: str) -> str:
    """Return a user's name or pattern in canonical form.

    >>> canonical_pattern("PyObjC_framework.*")
    'pyobjc-framework-*'
    """
    return canonical_name(text.strip())


def matches(patterns: Iterable[str], name: str) -> bool:
    """Return True if one of the *patterns*, in canonical form, matches *name*."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def nearest(text: str, known: Iterable[str]) -> str | None:
    """Return the *known* name that is most similar to *text*, or ``None``.

    >>> nearest("xaray", ["xarray", "zarr"])
    'xarray'
    """
    # Only error messages need it.
    from difflib import get_close_matches

    close = get_close_matches(text, list(known), n=1, cutoff=0.6)
    return close[0] if close else None
