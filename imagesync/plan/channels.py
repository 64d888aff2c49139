"""Channels: where conda packages come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagesync.credentials import strip_credentials
from imagesync.scan.environment import Environment

ALIAS = "https://conda.anaconda.org"
DEFAULT = f"{ALIAS}/conda-forge"
# What conda's own name for its default channels stands for, but for Windows.
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


def find_channels(environment: Environment, given: Sequence[str]) -> tuple[str, ...]:
    """Return the channels of an image, first the one that wins: URLs without credentials.

    Parameters
    ----------
    given
        What the settings name; nothing for the channels of *environment*.
    """
    if not given:
        return environment.channels or (DEFAULT,)
    return tuple(dict.fromkeys(strip_credentials(url) for name in given for url in channel_urls(name)))


def channel_urls(name: str) -> tuple[str, ...]:
    """Return the URLs that a channel's *name* stands for; a URL stands for itself, credentials included.

    >>> channel_urls("conda-forge")
    ('https://conda.anaconda.org/conda-forge',)
    """
    if name == "defaults":
        return _DEFAULTS
    if "://" in name:
        return (name.rstrip("/"),)
    if name.startswith((".", "/", "~")):
        return (Path(name).expanduser().resolve().as_uri(),)
    return (f"{ALIAS}/{name.strip('/')}",)
