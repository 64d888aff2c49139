"""The conda channels of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imagesync.core.credentials import strip_credentials
from imagesync.scan.environment import Environment

DEFAULT = "https://conda.anaconda.org/conda-forge"


def with_channels(
    environment: Environment, channels: Sequence[str], *, environ: Mapping[str, str]
) -> Environment:
    """Return *environment* with the channels that provide the conda packages of its image.

    Parameters
    ----------
    environment
        Its own channels are used if *channels* is empty.
    channels
        Names or URLs from the settings. Without any and without channels of *environment*: those of conda's
        configuration, or else conda-forge.
    environ
        Environment variables, which conda's configuration depends on.

    Raises
    ------
    ScanError
        conda's configuration can't be read.
    """
    if environment.channels and not channels:
        return environment
    # Lazy, because an environment without conda packages never reads conda's configuration.
    from imagesync.indexes.conda.conda_configuration import read_conda_configuration

    configuration = read_conda_configuration(Path(environment.python.prefix), environ)
    urls = [strip_credentials(url) for url in configuration.urls(channels)] if channels else None
    found = configuration.public_urls if urls is None else tuple(dict.fromkeys(urls))
    return replace(environment, channels=found or (DEFAULT,))
