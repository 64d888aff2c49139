"""The grammar of image references, so that nothing else reaches an engine.

Source: the ``reference`` package of github.com/distribution/reference, which the OCI
distribution specification ("Pulling manifests") agrees with.
"""

from __future__ import annotations

import re

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"(?:{_DOMAIN}/)?{_PATH_PART}(?:/{_PATH_PART})*"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_MAX_NAME = 255


def is_repository(text: str) -> bool:
    """Return whether *text* names a repository, without a tag and without a digest.

    >>> is_repository("registry.example.com:5000/team/imagesync")
    True
    >>> is_repository("imagesync:latest")
    False
    """
    return len(text) <= _MAX_NAME and re.fullmatch(_NAME, text) is not None


def is_reference(text: str) -> bool:
    """Return whether *text* names an image: a repository, and a tag or a digest if it likes.

    >>> is_reference("ubuntu:24.04")
    True
    >>> is_reference("ubuntu:24.04 --privileged")
    False
    """
    match = re.fullmatch(rf"({_NAME})(?::{_TAG})?(?:@{_DIGEST})?", text)
    return match is not None and len(match[1]) <= _MAX_NAME
