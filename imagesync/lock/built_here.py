"""Packages of an index that were built on this machine: with its libraries, and perhaps with flags.

The index's wheel of the same version may be another program, such as one without the features that
``CMAKE_ARGS`` switched on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.strict_json import load_json
from imagesync.scan.environment import Package

if TYPE_CHECKING:
    from imagesync.lock.locked_packages import Artifact


def built_here(package: Package | None, artifact: Artifact) -> str:
    """Return the reason why the installed files of *package* aren't those of *artifact*, of the same version.

    A wheel that is built on Linux has the tag ``linux_<machine>``, which PyPI refuses; those of indexes are
    ``manylinux``. On other systems tags don't tell.

    Returns
    -------
    str
        Without a full stop. Empty if *artifact* may be what is installed, or gives it if it is built again.
    """
    if package is None or package.source.kind != "index" or not package.tags:
        return ""
    if settings := _build_settings(package):
        return f"it was built here with {settings}"
    compiled = _is_compiled_here(package)
    if not artifact.is_wheel:
        return (
            f"it was compiled here, and another build of {artifact.filename} may differ" if compiled else ""
        )
    platforms = artifact.filename.removesuffix(".whl").rpartition("-")[2].split(".")
    if compiled and not any(platform.startswith("linux_") for platform in platforms):
        return f"it was compiled here, and the index has {artifact.filename}"
    if is_pure(package) and "any" not in platforms:
        return f"it is pure Python here, and the index has {artifact.filename}"
    return ""


def is_own_egg(package: Package | None) -> bool:
    """Return True if *package* is an egg that isn't an unpacked wheel, as easy_install makes them."""
    return package is not None and package.is_egg and not Path(package.metadata_path, "WHEEL").is_file()


def was_built_here(package: Package | None) -> bool:
    """Return True if *package* itself says that it was compiled, configured or made on this machine."""
    if package is None or package.source.kind != "index":
        return False
    if not package.tags:
        return is_own_egg(package)
    return is_own_egg(package) or _is_compiled_here(package) or bool(_build_settings(package))


def is_pure(package: Package) -> bool:
    """Return True if *package* has no compiled code, by its tags."""
    return all(tag.endswith("-none-any") for tag in package.tags)


def _is_compiled_here(package: Package) -> bool:
    """Return True if *package* has only tags of plain Linux (``linux_x86_64``), as local builds have."""
    platforms = [part for tag in package.tags for part in tag.rpartition("-")[2].split(".")]
    return bool(platforms) and all(platform.startswith("linux_") for platform in platforms)


def _build_settings(package: Package) -> str:
    """Return the build settings that uv recorded (``uv_build.json``), as a phrase; empty without any."""
    try:
        recorded = load_json((Path(package.metadata_path) / "uv_build.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    if not isinstance(recorded, dict):
        return ""
    return ", ".join(key.replace("_", " ") for key, value in sorted(recorded.items()) if value)
