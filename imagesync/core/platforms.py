"""Platforms of images, their names elsewhere, and the rule whether local binaries run on one."""

from __future__ import annotations

import platform as machine
import sysconfig
from dataclasses import dataclass
from typing import Final

from imagesync.errors import LockError


@dataclass(frozen=True)
class Platform:
    """A platform that images are made for.

    Parameters
    ----------
    name
        Its name in settings, for engines and for BuildKit, such as ``linux/arm64``.
    variant
        As in an OCI image index (``GOARM``).
    machine
        The architecture in wheel tags, in markers and for uv's ``--python-platform``.
    subdir
        The subdirectory of conda channels.
    ecs_architecture
        The architecture in task definitions of Amazon ECS.
    elf_machine
        ``e_machine`` of its binaries.
    oldest_glibc
        The minor version of the oldest glibc 2 that a manylinux tag exists for (PEP 513, PEP 571, PEP 599).
    """

    name: str
    variant: str
    machine: str
    subdir: str
    ecs_architecture: str
    elf_machine: int
    oldest_glibc: int

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def subdirs(self) -> tuple[str, ...]:
        """Return the subdirectories of conda channels whose packages it takes."""
        return self.subdir, "noarch"

    @property
    def full_name(self) -> str:
        """Return the name with the variant, as in an OCI image index.

        >>> LINUX_AMD64.full_name, LINUX_ARM64.full_name
        ('linux/amd64', 'linux/arm64/v8')
        """
        return f"{self.name}/{self.variant}" if self.variant else self.name

    @property
    def sysconfig_name(self) -> str:
        """Return the value of ``sysconfig.get_platform()`` there.

        >>> LINUX_AMD64.sysconfig_name
        'linux-x86_64'
        """
        return f"linux-{self.machine}"

    def is_platform_of(self, name: str) -> bool:
        """Return True if *name* is its own or that with a variant, as an image's configuration has it.

        >>> LINUX_ARM64.is_platform_of("linux/arm64/v8"), LINUX_ARM64.is_platform_of("linux/arm")
        (True, False)
        """
        return is_platform(name, self.name)


LINUX_AMD64: Final = Platform("linux/amd64", "", "x86_64", "linux-64", "X86_64", 62, 5)
LINUX_ARM64: Final = Platform("linux/arm64", "v8", "aarch64", "linux-aarch64", "ARM64", 183, 17)
PLATFORMS: Final = (LINUX_AMD64, LINUX_ARM64)
"""All platforms that images can be made for."""
DEFAULT_PLATFORM: Final = LINUX_AMD64
"""The platform of images where the settings name none."""


def is_platform(name: str, wanted: str) -> bool:
    """Return True if the platform *name*, which may have a variant, is *wanted* (OCI).

    >>> is_platform("linux/arm64/v8", "linux/arm64"), is_platform("linux/arm64", "linux/arm64/v8")
    (True, False)
    """
    return name == wanted or name.startswith(f"{wanted}/")


def find_platform(name: str) -> Platform | None:
    """Return the platform of a name in any of its spellings, or ``None`` if images can't be made for it.

    >>> str(find_platform("linux/arm64/v8")), find_platform("linux/s390x")
    ('linux/arm64', None)
    """
    for platform in PLATFORMS:
        if platform.is_platform_of(name) or name in (platform.sysconfig_name, platform.subdir):
            return platform
    return None


def require_platform(name: str) -> Platform:
    """Return the platform of a name in any of its spellings.

    Raises
    ------
    LockError
        Images can't be made for it.
    """
    platform = find_platform(name)
    if platform is None:
        raise LockError(
            f"The target can't be {name}.", hint=f"What can be locked for: {', '.join(map(str, PLATFORMS))}."
        )
    return platform


def runs_on(platform: Platform, *, local: str, libc: str) -> bool:
    """Return True if local binaries run on *platform*: on Linux with glibc, on the same architecture.

    Parameters
    ----------
    platform
        The image's.
    local
        The value of ``sysconfig.get_platform()`` here.
    libc
        The local C library, such as ``glibc 2.36`` or ``musl 1.2``.

    >>> runs_on(LINUX_AMD64, local="linux-x86_64", libc="glibc 2.36")
    True
    >>> runs_on(LINUX_AMD64, local="linux-x86_64", libc="musl 1.2")
    False
    """
    return local == platform.sysconfig_name and not libc.startswith("musl")


def this_machine_runs_on(platform: Platform) -> bool:
    """Return True if this machine's own programs run on *platform*."""
    libc = machine.libc_ver()[0] or "musl"
    return runs_on(platform, local=sysconfig.get_platform(), libc=libc)
