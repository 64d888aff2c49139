"""The settings themselves: what a user may choose, and what holds where nothing is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

DEFAULT_BASE = "ubuntu:24.04"
DEFAULT_REPOSITORY = "imagesync"
DEFAULT_CODE_MAX_SIZE = 50_000_000


@dataclass(frozen=True)
class Settings:
    """What a user may choose; every field but the last is a key of ``[tool.imagesync]``.

    Parameters
    ----------
    profile
        ``auto``, or a profile's name.
    levels
        Package name or pattern to level, over the shipped ones.
    add_pip, add_conda
        Requirements that only the cluster gets (``[tool.imagesync.add]``: ``pip``, ``conda``).
    code
        Folders and modules that no package owns, to go into the image.
    code_max_size
        How large they may be together, in bytes.
    no_isolation
        Packages that are built in the scanned environment itself, with what is installed there.
    apt
        Debian package names, each optionally with ``=version``.
    base
        The image that the base image is made from.
    python_source
        Where the image's interpreter comes from (key ``python``): the base image, a conda channel, or, with
        ``auto``, the channel where one answers. A conda environment has its own.
    channels
        Names or URLs of conda channels, first the one that wins; empty for those of the environment.
    conda_installer, micromamba
        What installs conda packages in the build, and the executable of micromamba, where it is given.
    solver
        What solves for conda packages where it must be done.
    cuda
        The CUDA version that the image's machine has; empty for none.
    repository
        The image's name without a tag.
    push
        Whether a build ends with the image in the registry that *repository* names.
    templates
        A folder whose templates win over the shipped ones.
    origins
        Where each value that isn't a default was set, by field: a flag, a variable, or a file.
    """

    strict: bool = False
    profile: str = "auto"
    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)
    add_pip: tuple[str, ...] = ()
    add_conda: tuple[str, ...] = ()
    code: tuple[Path, ...] = ()
    code_max_size: int = DEFAULT_CODE_MAX_SIZE
    no_isolation: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    allow_inconsistent: bool = False
    base: str = DEFAULT_BASE
    python_source: Literal["auto", "base", "conda"] = "auto"
    channels: tuple[str, ...] = field(default=(), repr=False)  # may hold a token
    conda_installer: Literal["auto", "micromamba", "rattler"] = "auto"
    micromamba: Path | None = None
    cuda: str = ""
    repository: str = DEFAULT_REPOSITORY
    push: bool = False
    resolver: Literal["uv", "pip-tools"] = "uv"
    solver: Literal["rattler", "conda-lock"] = "rattler"
    templates: Path | None = None
    cache_dir: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
