"""Names of distributions: what is one, and its canonical form.

``packaging.utils`` knows both, but importing it takes as long as a whole scan.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_VALID_NAME = re.compile(r"[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?", re.IGNORECASE | re.ASCII)
_SEPARATORS = re.compile(r"[-_.]+")
# Most versions there are; the rest is left to packaging.
_PLAIN_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?")


def is_valid_name(name: str) -> bool:
    """Return whether *name* may name a distribution (core metadata specification, ``Name``)."""
    return _VALID_NAME.fullmatch(name) is not None


def canonical_name(name: str) -> NormalizedName:
    """Return the canonical form of *name* (PEP 503).

    >>> canonical_name("Jinja2"), canonical_name("ruamel.yaml_clib")
    ('jinja2', 'ruamel-yaml-clib')
    """
    return cast("NormalizedName", _SEPARATORS.sub("-", name).lower())


def is_valid_version(version: str) -> bool:
    """Return whether *version* is a version in the sense of PEP 440.

    >>> is_valid_version("1.4.3"), is_valid_version("2.1+cu121"), is_valid_version("2004d-final")
    (True, True, False)
    """
    if _PLAIN_VERSION.fullmatch(version):
        return True
    from packaging.version import InvalidVersion, Version

    try:
        Version(version)
    except InvalidVersion:
        return False
    return True
