"""Checking that a wheel fits the image: its tags, the glibc of its libraries, and its members."""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path, PurePosixPath

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from imagesync.core.archive_members import ZIP_DAMAGE
from imagesync.core.platforms import runs_on
from imagesync.errors import WheelError
from imagesync.lock.lock import Target
from imagesync.lock.wheel_tags import target_tags
from imagesync.scan.distributions.metadata import InstalledFile, installed_files
from imagesync.scan.environment import Interpreter, Package

_ANY_PYTHON_3 = Tag("py3", "none", "any")
_GLIBC_SYMBOL = re.compile(rb"GLIBC_2\.(\d{1,2})(?:\.\d+)?\0")


def is_pure(filename: str) -> bool:
    """Return True if the wheel *filename* is for any platform and any ABI.

    >>> is_pure("six-1.17.0-py2.py3-none-any.whl"), is_pure("numpy-2.0.0-cp311-cp311-linux_x86_64.whl")
    (True, False)
    """
    return filename.endswith("-none-any.whl")


def fits(filename: str, target: Target) -> bool:
    """Return True if *target* supports the tags of the wheel *filename*."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return False
    # The usual tag of local wheels; listing the hundreds of tags of a target takes time.
    return _ANY_PYTHON_3 in tags or not tags.isdisjoint(target_tags(target))


def host_is_target(python: Interpreter, target: Target) -> bool:
    """Return True if extension modules that are built here for *python* fit *target*."""
    return (
        python.implementation == target.implementation
        and python.minor == target.minor
        and runs_on(target.platform, local=python.platform, libc=python.libc)
    )


def other_files(wheel: Path, package: Package) -> tuple[str, ...]:
    """Return the files by which the installed *package* differs from a wheel of its sources, sorted.

    Libraries don't count, because another build of the same sources may differ, nor what lies outside of
    site-packages.
    """
    installed = {file.path: file.sha256 for file in installed_files(package) if file.sha256}
    with zipfile.ZipFile(wheel) as archive:
        record = next((name for name in archive.namelist() if name.endswith(".dist-info/RECORD")), None)
        if record is None:
            return ()
        rows = csv.reader(archive.read(record).decode("utf-8", "surrogateescape").splitlines())
        built = {row[0]: InstalledFile(row[0], row[1]).sha256 for row in rows if len(row) > 1 and row[1]}
    differing = {path for path in {*installed, *built} if installed.get(path) != built.get(path)}
    outside = {
        path for path in differing if path.startswith("..") or path.partition("/")[0].endswith(".data")
    }
    return tuple(sorted(path for path in differing - outside if not is_library(path)))


def check_identity(filename: str, *, name: str) -> Version:
    """Check that the wheel *filename* is of the distribution *name*, and return its version.

    Raises
    ------
    WheelError
        It is of another distribution, or the filename is invalid.
    """
    try:
        built, version = parse_wheel_filename(filename)[:2]
    except InvalidWheelFilename as error:
        raise WheelError(f"{name}: the build gave {filename}, which is no wheel's name.") from error
    if built != name:
        raise WheelError(
            f"{name}: its sources give a wheel of another name, {filename}.",
            hint=f"If it was renamed, uninstall {name}, and install it again as {built}.",
        )
    return version


def check_wheel(wheel: Path, *, filename: str, target: Target) -> None:
    """Check that *wheel* is a valid wheel, fits *target*, and only writes into its prefix.

    *filename* is that of the wheel, which its file in the store doesn't have.

    Raises
    ------
    WheelError
        The wheel is damaged, doesn't fit the target, or would write outside of its prefix.
    """
    if not fits(filename, target):
        raise WheelError(
            f"{filename} can't be used on {target.platform} with Python {target.minor} "
            f"and glibc {target.glibc[0]}.{target.glibc[1]}.",
            hint="Build on a machine like the image, or choose a base image that is like this machine.",
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                _check_member(filename, member)
                if not is_pure(filename) and is_library(member.filename):
                    _check_glibc(filename, member.filename, archive.read(member), target)
    except ZIP_DAMAGE as error:
        raise WheelError(
            f"{filename} is damaged: {error}.", hint="Look at how it is built; try again with --no-cache."
        ) from error


def _check_member(filename: str, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename.replace("\\", "/")
    path = PurePosixPath(name)
    is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name or is_link:
        what = "a symbolic link" if is_link else "a path that leads out of the environment"
        raise WheelError(
            f"{filename} holds {what}: {name!r}.",
            hint="Mend the project's build configuration: a wheel's paths are relative, and have no '..'.",
        )


def is_library(name: str) -> bool:
    """Return True if *name* is that of a shared library or an extension module of Linux."""
    return name.endswith(".so") or ".so." in PurePosixPath(name).name


def needed_glibc(library: bytes) -> int:
    """Return the minor version of the glibc 2 that a library requires; 0 if it requires none.

    The versions are strings in the string table of its ``.gnu.version_r`` section.
    """
    return max((int(match) for match in _GLIBC_SYMBOL.findall(library)), default=0)


def _check_glibc(filename: str, name: str, content: bytes, target: Target) -> None:
    """Raise an error if a library requires a newer glibc than the image has."""
    needed = needed_glibc(content)
    if needed > target.glibc[1]:
        raise WheelError(
            f"{filename}: {name} needs glibc 2.{needed}, and the image has "
            f"{target.glibc[0]}.{target.glibc[1]}.",
            hint="Choose a newer base image, or build on a system that is as old as the image.",
        )
