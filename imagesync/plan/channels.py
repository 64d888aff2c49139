"""Channels: where the conda packages of an image come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imagesync.core.credentials import strip_credentials
from imagesync.scan.environment import Environment

DEFAULT = "https://conda.anaconda.org/conda-forge"


def with_channels(
    environment: Environment, given: Sequence[str], *, environ: Mapping[str, str]
) -> Environment:
    """Return *environment* with the channels that its image's conda packages come from.

    Parameters
    ----------
    given
        Names or URLs that the settings name; nothing for the channels of *environment* itself, then those of
        conda's configuration, then conda-forge.

    Raises
    ------
    ScanError
        conda's configuration can't be read.
    """
    if environment.channels and not given:
        return environment
    # Only where channels are named: an environment of pip's has no other use for conda's configuration.
    from imagesync.indexes.conda.channels import urls_of
    from imagesync.indexes.conda.configuration import read_conda_configuration

    configuration = read_conda_configuration(Path(environment.python.prefix), environ)
    urls = [strip_credentials(url) for url in urls_of(configuration, given)] if given else None
    found = configuration.public_urls if urls is None else tuple(dict.fromkeys(urls))
    return replace(environment, channels=found or (DEFAULT,))
