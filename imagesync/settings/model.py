"""The value type of the settings, with the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from imagesync.core.limits import SILENCE
from imagesync.core.platforms import DEFAULT_PLATFORM, Platform, require_platform

DEFAULT_BASE = "ubuntu:24.04"
DEFAULT_REPOSITORY = "imagesync"
DEFAULT_CODE_MAX_SIZE = 50_000_000
DEFAULT_MAX_LAYERS = 40


@dataclass(frozen=True)
class Settings:
    """All settings of a command; every field but the last is a key of ``[tool.imagesync]``.

    Parameters
    ----------
    strict
        Whether every package must have the local version.
    profile
        ``auto``, or a profile's name.
    ignore, only
        Names or patterns of packages that stay out of the image, or that alone go into it.
    levels
        Levels by package name or pattern; they override the shipped ones.
    add_pip, add_conda
        Requirements that only the cluster gets (``[tool.imagesync.add]``: ``pip``, ``conda``).
    modified
        What to do with packages whose installed files were changed: ship them as they are here, take the
        index's, or refuse them.
    code
        Folders and modules of loose code that go into the image.
    code_max_size
        The largest size of all loose code, in bytes.
    no_isolation
        Names or patterns of packages that are built without build isolation, in the scanned environment;
        ``auto`` stands for source trees whose isolated build lacks a module that is installed.
    no_build
        Whether no build back-end may run, so that nothing is built from sources.
    apt
        Debian packages of the base image, as ``apt-get install`` takes them.
    toolchain
        Whether the image has a compiler, for those who compile where it runs.
    env, labels
        Variables and labels of the image.
    cmd, workdir, user
        The image's command, working directory and user; empty for the usual ones.
    files
        Files and folders to copy into the image, each with its absolute path there.
    run
        Shell commands that run in the image after everything else is in place.
    run_network
        Whether these commands have a network.
    allow_inconsistent
        Whether to build although installed packages contradict each other.
    base
        The root image that the base image is made from.
    builder
        What builds images: a container engine, imagesync itself (``oci``), or (``auto``) an engine if one
        answers.
    platforms
        The platforms of the image, such as ``linux/arm64``; ``plan``, ``lock`` and ``build`` take several.
    compression
        Of layers that imagesync writes itself.
    max_layers
        The most layers of an image that imagesync builds itself, those of its base included.
    skip_scripts
        Whether an image that imagesync builds itself goes without what post-link scripts of conda packages
        do.
    keep_archives
        Whether the cache folder keeps the archive of a package beside its part of a layer.
    target_python, target_glibc
        The versions that the base image has, such as ``3.12`` and ``2.39``; empty to find them out.
    python_source
        Where the image's interpreter comes from (key ``python``): the base image, a conda channel, or
        (``auto``) a channel if one answers. A conda environment has its own.
    channels
        Names or URLs of conda channels, by priority; empty for those of the environment.
    conda_installer, micromamba
        The installer of conda packages in a build, and the path of a micromamba executable.
    timeout
        Seconds without a byte after which an index, a channel or a registry counts as gone.
    resolver, solver
        The resolver of packages from indexes, and the solver of conda packages.
    cuda
        The CUDA version of the driver on the cluster's machines; empty for none.
    repository
        The image's name without a tag.
    cache_from
        A repository whose layers builds without an engine take instead of making them; empty for none.
    push
        Whether a build pushes the image to the registry that *repository* names.
    attest
        Whether a build that pushes attaches an SBOM and provenance to the image in its registry.
    templates
        A folder whose templates override the shipped ones.
    locked
        The team's lock file, which ``build`` and ``run`` build from; drift of the environment from it is a
        warning elsewhere.
    cache_dir
        The cache folder; by default the user's.
    cluster
        Sizes of clusters: ``workers``, ``nthreads``, ``cpus``, ``memory-limit``, ``shm-size``.
    origins
        By field, where a value that isn't a default was set: a flag, a variable, or a file.
    """

    strict: bool = False
    profile: str = "auto"
    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)
    add_pip: tuple[str, ...] = ()
    add_conda: tuple[str, ...] = ()
    modified: Literal["ship", "index", "error"] = "ship"
    code: tuple[Path, ...] = ()
    code_max_size: int = DEFAULT_CODE_MAX_SIZE
    no_isolation: tuple[str, ...] = ()
    no_build: bool = False
    apt: tuple[str, ...] = ()
    toolchain: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    files: Mapping[Path, str] = field(default_factory=dict)
    run: tuple[str, ...] = ()
    run_network: bool = False
    allow_inconsistent: bool = False
    base: str = DEFAULT_BASE
    builder: Literal["auto", "docker", "oci"] = "auto"
    platforms: tuple[str, ...] = (DEFAULT_PLATFORM.name,)
    compression: Literal["gzip", "zstd"] = "gzip"
    max_layers: int = DEFAULT_MAX_LAYERS
    skip_scripts: bool = False
    keep_archives: bool = True
    target_python: str = ""
    target_glibc: str = ""
    python_source: Literal["auto", "base", "conda"] = "auto"
    channels: tuple[str, ...] = field(default=(), repr=False)  # may hold a token
    conda_installer: Literal["auto", "micromamba", "rattler"] = "auto"
    micromamba: Path | None = None
    cuda: str = ""
    repository: str = DEFAULT_REPOSITORY
    cache_from: str = ""
    push: bool = False
    attest: bool = False
    timeout: int = SILENCE
    resolver: Literal["uv", "pip-tools"] = "uv"
    solver: Literal["rattler", "conda-lock"] = "rattler"
    templates: Path | None = None
    locked: Path | None = None
    cache_dir: Path | None = None
    cluster: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def platform(self) -> Platform:
        """Return the platform of the image, the first one if there are several."""
        return require_platform(self.platforms[0]) if self.platforms else DEFAULT_PLATFORM
