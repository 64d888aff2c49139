# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH118, PTH123, PTH208
"""The platform that an environment was made for, told from its files."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator

from imagesync.scan.distributions.metadata import read_headers

_ELF_MACHINES = {
    3: "i686",
    21: "ppc64le",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
}
_PE_MACHINES = {0x14C: "win32", 0x8664: "win-amd64", 0xAA64: "win-arm64"}
_MACHO_PROCESSORS = {0x01000007: "x86_64", 0x0100000C: "arm64"}
_MACHO_64 = 0xFEEDFACF
_MACHO_UNIVERSAL = 0xCAFEBABE
_WINDOWS_TAGS = {"win_amd64": "win-amd64", "win_arm64": "win-arm64", "win32": "win32"}
_LINUX_TAG = re.compile(
    r"(?:manylinux[0-9_]*?|musllinux[0-9_]*?|linux)_(?P<machine>x86_64|aarch64|i686|ppc64le|s390x|armv7l|riscv64)"
)
_MACOS_TAG = re.compile(r"macosx_(?P<major>[0-9]+)_(?P<minor>[0-9]+)_(?P<machine>\w+)")


def read_platform(root: str, site: str) -> str:
    """Return the platform of the environment at *root* as ``sysconfig.get_platform()`` would, or nothing.

    Parameters
    ----------
    root
        The prefix.
    site
        Its ``site-packages``, whose wheels name a platform where no executable does.
    """
    for name in ("bin/python", "bin/python3", "python.exe", "Scripts/python.exe"):
        try:
            with open(os.path.join(root, *name.split("/")), "rb") as file:
                platform = platform_of_executable(file.read(4096))
        except OSError:
            continue
        if platform:
            return _with_macos_version(platform, site)
    return next(_platforms_of_wheels(site), "")


def platform_of_executable(head: bytes) -> str:
    """Return the platform that an executable was made for, told from its first bytes.

    Source: the ELF specification (``e_machine``), PE Format (``Machine``), and ``mach/machine.h``.
    """
    if head.startswith(b"\x7fELF") and len(head) >= 20:
        order = "<" if head[5] == 1 else ">"
        machine = _ELF_MACHINES.get(struct.unpack_from(order + "H", head, 18)[0], "")
        return f"linux-{machine}" if machine else ""
    if head.startswith(b"MZ") and len(head) >= 64:
        offset = struct.unpack_from("<I", head, 60)[0]
        if head[offset : offset + 4] == b"PE\0\0" and len(head) >= offset + 6:
            return _PE_MACHINES.get(struct.unpack_from("<H", head, offset + 4)[0], "")
        return ""
    if len(head) >= 8:
        magic, processor = struct.unpack_from("<II", head)
        if magic == _MACHO_64 and processor in _MACHO_PROCESSORS:
            return f"macosx-{_MACHO_PROCESSORS[processor]}"
        if struct.unpack_from(">I", head)[0] == _MACHO_UNIVERSAL:
            return "macosx-universal2"
    return ""


def _with_macos_version(platform: str, site: str) -> str:
    """Return ``macosx-<version>-<machine>``; only the wheels may know the version."""
    if not platform.startswith("macosx-"):
        return platform
    family, _, machine = platform.partition("-")
    for other in _platforms_of_wheels(site):
        if other.startswith("macosx-") and other.endswith(machine):
            return other
    return f"{family}-11.0-{machine}" if machine == "arm64" else platform


def _platforms_of_wheels(site: str) -> Iterator[str]:
    try:
        names = sorted(name for name in os.listdir(site) if name.endswith(".dist-info"))
    except OSError:
        return
    for name in names:
        try:
            tags = read_headers(os.path.join(site, name, "WHEEL"), ("tag",)).all("tag")
        except OSError:
            continue
        for tag in tags:
            platform = platform_of_tag(tag.rpartition("-")[2])
            if platform:
                yield platform


def platform_of_tag(tag: str) -> str:
    """Return a wheel's platform tag in the terms of sysconfig, or nothing.

    >>> platform_of_tag("manylinux_2_17_x86_64"), platform_of_tag("macosx_11_0_arm64"), platform_of_tag("any")
    ('linux-x86_64', 'macosx-11.0-arm64', '')
    """
    if tag in _WINDOWS_TAGS:
        return _WINDOWS_TAGS[tag]
    if match := _LINUX_TAG.fullmatch(tag):
        return f"linux-{match['machine']}"
    if match := _MACOS_TAG.fullmatch(tag):
        return f"macosx-{match['major']}.{match['minor']}-{match['machine']}"
    return ""
