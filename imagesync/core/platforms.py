"""Platforms of images, their names elsewhere, and the rule whether local binaries run on one."""

from __future__ import annotations

import platform as machine
import sysconfig
from typing import Final

IMAGE_PLATFORM: Final = "linux/amd64"
"""The platform that images are made for."""
ARCHITECTURES: Final = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
"""The architecture of each platform as in wheel tags."""
SUBDIRS: Final = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}
"""The subdirectory of each platform in conda channels."""


def sysconfig_platform(platform: str) -> str:
    """Return the value of ``sysconfig.get_platform()`` on a platform of images.

    >>> sysconfig_platform("linux/amd64")
    'linux-x86_64'
    """
    architecture = ARCHITECTURES.get(platform)
    return platform.replace("/", "-") if architecture is None else f"linux-{architecture}"


def engine_platform(name: str) -> str:
    """Return the platform for a value of ``sysconfig.get_platform()``; *name* itself if no image has it.

    >>> engine_platform("linux-aarch64"), engine_platform("macosx-14.0-arm64")
    ('linux/arm64', 'macosx-14.0-arm64')
    """
    names = {sysconfig_platform(platform): platform for platform in ARCHITECTURES}
    return names.get(name, name)


def runs_on(platform: str, *, local: str, libc: str) -> bool:
    """Return True if local binaries run on *platform*: on Linux with glibc, on the same architecture.

    Parameters
    ----------
    platform
        The image's, such as ``linux/amd64``.
    local
        The value of ``sysconfig.get_platform()`` here.
    libc
        The local C library, such as ``glibc 2.36`` or ``musl 1.2``.

    >>> runs_on("linux/amd64", local="linux-x86_64", libc="glibc 2.36")
    True
    >>> runs_on("linux/amd64", local="linux-x86_64", libc="musl 1.2")
    False
    """
    return local == sysconfig_platform(platform) and not libc.startswith("musl")


def this_machine_runs_on(platform: str) -> bool:
    """Return True if this machine's own programs run on *platform*."""
    libc = machine.libc_ver()[0] or "musl"
    return runs_on(platform, local=sysconfig.get_platform(), libc=libc)
