# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH118, PTH119, PTH120, PTH123, PTH208
"""Facts about an environment from its files: the tool that made it, its interpreter, its platform."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping

from imagesync.core.files import read_bytes
from imagesync.scan.distributions.metadata import read_headers
from imagesync.scan.interpreter import INTERPRETER_PATHS

_UV_CACHE = re.compile(r"(archive|builds|environments)-v[0-9]+")
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


def is_environment(folder: str) -> bool:
    """Return True if *folder* is a Python environment, even if its interpreter is gone."""
    return os.path.isfile(os.path.join(folder, "pyvenv.cfg")) or has_interpreter(folder)


def has_interpreter(folder: str) -> bool:
    """Return True if an interpreter lies in *folder*, even as a dangling link."""
    return any(os.path.lexists(os.path.join(folder, *place.split("/"))) for place in INTERPRETER_PATHS)


def is_isolated(prefix: str) -> bool:
    """Return True if *prefix* is an environment, and not an installation that others are made from."""
    return os.path.isfile(os.path.join(prefix, "pyvenv.cfg")) or os.path.isdir(
        os.path.join(prefix, "conda-meta")
    )


def is_same_folder(folder: str, other: str) -> bool:
    """Return True if both paths lead to the same folder, links resolved."""
    return os.path.realpath(folder) == os.path.realpath(other)


def is_conda_base(prefix: str, environ: Mapping[str, str]) -> bool:
    """Return True if *prefix* is the environment that conda itself is installed in.

    miniconda activates it in every shell, so it says nothing about the user's choice. The
    variables are those of the activation scripts of conda and micromamba; pixi has no such environment.
    """
    if os.path.exists(os.path.join(prefix, "conda-meta", "pixi")):
        return False
    executable = environ.get("CONDA_EXE", "")
    roots = [environ.get("_CONDA_ROOT", ""), environ.get("MAMBA_ROOT_PREFIX", "")]
    roots.append(os.path.dirname(os.path.dirname(executable)))
    if any(root and is_same_folder(prefix, root) for root in roots):
        return True
    if environ.get("CONDA_DEFAULT_ENV") in ("base", "root") and environ.get("CONDA_PREFIX") == prefix:
        return True
    in_envs = os.path.basename(os.path.dirname(os.path.abspath(prefix))) == "envs"
    return not in_envs and os.path.isdir(os.path.join(prefix, "condabin"))


def tool_of(prefix: str) -> str:
    """Return the tool that made the environment at *prefix* for one application; empty if none did.

    Nobody works in such an environment. uv and pipx leave a receipt in it; an environment that uv makes for
    a single run lies in its cache.
    """
    for name, tool in (("uv-receipt.toml", "uv tool"), ("pipx_metadata.json", "pipx")):
        if os.path.exists(os.path.join(prefix, name)):
            return tool
    bucket = os.path.dirname(os.path.realpath(prefix))
    cached = _UV_CACHE.fullmatch(os.path.basename(bucket)) is not None
    return "uvx" if cached and os.path.exists(os.path.join(os.path.dirname(bucket), "CACHEDIR.TAG")) else ""


def extended(prefix: str) -> str:
    """Return the environment that *prefix* was laid over by ``uv run --with``, else *prefix* itself."""
    return read_pyvenv_cfg(prefix).get("extends-environment") or prefix


def read_pyvenv_cfg(root: str) -> dict[str, str]:
    """Return the keys and values of ``pyvenv.cfg`` (PEP 405); empty without such a file."""
    try:
        text = read_bytes(os.path.join(root, "pyvenv.cfg")).decode("utf-8", "replace")
    except OSError:
        return {}
    # No path has a NUL.
    pairs = (line.partition("=") for line in text.splitlines() if "\0" not in line)
    return {key.strip().lower(): value.strip() for key, separator, value in pairs if separator}


def read_platform(root: str, site: str) -> str:
    """Return the platform of the environment at *root* in the terms of sysconfig; empty if unknown.

    Parameters
    ----------
    root
        The prefix.
    site
        Its ``site-packages``: wheels name a platform if no executable does.
    """
    for name in INTERPRETER_PATHS:
        try:
            with open(os.path.join(root, *name.split("/")), "rb") as file:
                platform = platform_of_executable(file.read(4096))
        except OSError:
            continue
        if platform:
            return _with_macos_version(platform, site)
    return next(_platforms_of_wheels(site), "")


def platform_of_executable(head: bytes) -> str:
    """Return the platform of an executable, by its first bytes.

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
    """Return ``macosx-<version>-<machine>``, with the version from a wheel's tag."""
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
    """Return a wheel's platform tag in the terms of sysconfig; empty if it has none.

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
