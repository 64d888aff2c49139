# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH111, PTH112, PTH114, PTH118, PTH119, PTH120, PTH208
"""Scan an environment by its files alone: of another platform, moved, or without its interpreter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from imagesync.core.files import read_bytes
from imagesync.errors import ScanError
from imagesync.scan.distributions.editables import path_lines
from imagesync.scan.environment import Finding, Interpreter, Severity
from imagesync.scan.environment_files import read_platform, read_pyvenv_cfg
from imagesync.scan.interpreter import ProbeAnswer

_VERSIONED = re.compile(r"(?P<implementation>python|pypy)(?P<version>[23]\.[0-9]+)t?")
# Strict, because it becomes part of the name of an executable.
_PYTHON_VERSION = re.compile(
    r"(?P<version>[23]\.[0-9]{1,3}(\.[0-9]{1,3}((a|b|rc)[0-9]{1,3})?)?)\+?(\.(alpha|beta|candidate|final)\.[0-9]+)?"
)
_PATCHLEVEL = re.compile(rb'^#define\s+PY_VERSION\s+"([^"+]+)', re.MULTILINE)
_CONDA_RECORD = re.compile(r"python-(?P<version>[0-9][^-]*)-[^-]+\.json")
_SYSTEMS = {
    "linux": ("posix", "Linux", "linux"),
    "macosx": ("posix", "Darwin", "darwin"),
    "win": ("nt", "Windows", "win32"),
}


def read_prefix(prefix: Path, findings: list[Finding]) -> ProbeAnswer:
    """Return the interpreter that the files in *prefix* describe, and the folders that it imports from.

    Nothing is run. Facts that no file has stay empty: the platform's release, the libc, and so on.

    Parameters
    ----------
    prefix
        A virtual environment, a conda environment, or an installation of Python, of any platform.
    findings
        Findings are appended.

    Raises
    ------
    ScanError
        It isn't a folder, or no Python packages are installed in it.
    """
    root = os.path.abspath(os.path.expanduser(prefix))
    if not os.path.isdir(root):
        raise ScanError(f"{prefix} isn't a folder", hint="Name an environment's folder: --prefix DIR")
    sites = list(_site_folders(root))
    if not sites:
        raise ScanError(
            f"{prefix} holds no Python environment: it has no site-packages folder",
            hint="Name the folder that holds bin (or Scripts on Windows) and lib.",
        )
    configuration = read_pyvenv_cfg(root)
    base = _base_prefix(configuration)
    if configuration.get("include-system-site-packages", "").lower() == "true":
        system = list(_site_folders(base)) if base else []
        if not system:
            findings.append(_base_missing(root, base))
        sites += system
    return ProbeAnswer(
        _interpreter(root, base or root, sites[0], configuration, findings), tuple(_with_pth(sites))
    )


def _site_folders(root: str) -> Iterator[str]:
    """Yield the folders that hold packages, in the order of ``sys.path``."""
    windows = os.path.join(root, "Lib", "site-packages")
    if os.path.isdir(windows) and "Lib" in os.listdir(root):  # elsewhere lib is in lower case
        yield windows
        return
    for parent in (("local", "lib"), ("lib64",), ("lib",)):
        folder = os.path.join(root, *parent)
        if parent == ("lib64",) and os.path.islink(folder):
            continue  # the same as lib, in virtual environments of 64-bit systems
        try:
            names = sorted(os.listdir(folder), key=_by_version, reverse=True)
        except OSError:
            continue
        versioned = [name for name in names if _VERSIONED.fullmatch(name)]
        for name in versioned:
            for leaf in ("site-packages", "dist-packages"):
                if os.path.isdir(os.path.join(folder, name, leaf)):
                    yield os.path.join(folder, name, leaf)
        if os.path.isdir(os.path.join(folder, "python3", "dist-packages")):  # Debian's own packages
            yield os.path.join(folder, "python3", "dist-packages")


def _by_version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", name))


def _with_pth(sites: list[str]) -> Iterator[str]:
    """Yield *sites*, each followed by the folders that its ``.pth`` files name."""
    for site in sites:
        yield site
        try:
            names = sorted(name for name in os.listdir(site) if name.endswith(".pth"))
        except OSError:
            continue
        for name in names:
            yield from (line.folder for line in path_lines(site, name))


def _base_prefix(configuration: dict[str, str]) -> str:
    """Return the prefix of the Python that a virtual environment was made from; empty if unknown."""
    home = configuration.get("home", "")
    if not home:
        return ""
    head, _, tail = home.replace("\\", "/").rstrip("/").rpartition("/")
    return head if tail == "bin" else home


def _base_missing(root: str, base: str) -> Finding:
    return Finding(
        Severity.WARNING,
        "base-missing",
        f"{root} sees the packages of {base or 'another Python'}, "
        "which isn't on this machine; they are missing here",
        path=os.path.join(root, "pyvenv.cfg"),
        hint="Scan it on the machine where it was made.",
    )


def _interpreter(
    root: str, base: str, site: str, configuration: dict[str, str], findings: list[Finding]
) -> Interpreter:
    implementation, version = _version(root, base, site, configuration)
    if not version:
        findings.append(
            Finding(
                Severity.WARNING,
                "python-version-unknown",
                f"no file in {root} says which Python it belongs to",
                path=root,
                hint="Scan it by its interpreter: imagesync scan --python PATH",
            )
        )
    platform = read_platform(root, site)
    minor = ".".join(version.split(".")[:2])
    free_threaded = "t" if os.path.basename(os.path.dirname(site)).endswith("t") else ""
    return Interpreter(
        implementation=implementation,
        version=version,
        platform=platform,
        abi=f"cp{minor.replace('.', '')}{free_threaded}" if implementation == "cpython" and minor else "",
        executable="",
        prefix=root,
        base_prefix=base,
        markers=_markers(implementation, version, platform),
    )


def _version(root: str, base: str, site: str, configuration: dict[str, str]) -> tuple[str, str]:
    """Return the implementation and the version, as exact as the files have it."""
    match = _VERSIONED.fullmatch(os.path.basename(os.path.dirname(site)))
    minor = match["version"] if match else ""
    implementation = "pypy" if match and match["implementation"] == "pypy" else "cpython"
    named = configuration.get("implementation", "").lower()
    if re.fullmatch(r"[a-z]+", named):
        implementation = named
    found = configuration.get("version_info") or configuration.get("version") or ""
    # uv and virtualenv write 3.11.7.final.0 into version_info.
    if match := _PYTHON_VERSION.fullmatch(found):
        return implementation, match["version"]
    for folder in (root, base):
        match = _PYTHON_VERSION.fullmatch(_conda_version(folder) or _patchlevel(folder, minor))
        if match and match["version"].startswith(minor):
            return implementation, match["version"]
    return implementation, minor


def _conda_version(root: str) -> str:
    try:
        names = os.listdir(os.path.join(root, "conda-meta"))
    except OSError:
        return ""
    return next((match["version"] for name in names if (match := _CONDA_RECORD.fullmatch(name))), "")


def _patchlevel(root: str, minor: str) -> str:
    """Return the version in the C headers of an installation."""
    for place in (("include", f"python{minor}"), ("include", f"python{minor}t"), ("include",), ("Include",)):
        try:
            match = _PATCHLEVEL.search(read_bytes(os.path.join(root, *place, "patchlevel.h")))
        except OSError:
            continue
        if match:
            return match[1].decode("ascii", "replace")
    return ""


def _markers(implementation: str, version: str, platform: str) -> dict[str, str]:
    """Return the marker environment of PEP 508; values of a running system are empty."""
    family, _, rest = platform.partition("-")
    os_name, system, sys_platform = _SYSTEMS.get(family, ("", "", ""))
    machine = rest.rpartition("-")[2]
    if family == "win":
        machine = {"amd64": "AMD64", "arm64": "ARM64"}.get(machine, machine)
    return {
        "implementation_name": implementation,
        "implementation_version": version,
        "os_name": os_name,
        "platform_machine": machine,
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(
            implementation, implementation
        ),
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "sys_platform": sys_platform,
    }
