"""Updating a lock after its wheels were made: the sources of a project may have another version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from imagesync.lock.lock import Deviation, Lock

_REASON = "its sources have changed their version since it was installed"


def update_versions(lock: Lock, filenames: Sequence[str], contents: Sequence[str]) -> Lock:
    """Return *lock* with the versions of the built wheels; each changed version is a deviation.

    An editable package whose version was raised after its installation has old metadata, and its wheel the
    new ones. *filenames* are those of the built wheels, and *contents* the digests of their sources, in the
    order of ``lock.vendored``.
    """
    vendored = []
    deviations = list(lock.deviations)
    for locked, filename, content in zip(lock.vendored, filenames, contents, strict=True):
        package = replace(locked, content=content)
        built = parse_wheel_filename(filename)[1]
        if _same(package.version, built):
            vendored.append(package)
            continue
        vendored.append(replace(package, version=str(built)))
        level = package.planned.level
        deviations.append(Deviation(package.name, package.version, str(built), level, _REASON))
    deviations.sort(key=lambda deviation: deviation.weight)
    return replace(lock, vendored=tuple(vendored), deviations=tuple(deviations))


def _same(installed: str, built: Version) -> bool:
    try:
        return Version(installed) == built
    except InvalidVersion:
        return installed == str(built)
