"""Inventories from files: a lock, or the ``environment.json`` of an image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from imagesync.core.platforms import IMAGE_PLATFORM, sysconfig_platform
from imagesync.errors import UsageError
from imagesync.inventory.default_levels import with_levels
from imagesync.inventory.inventory import Entry, Inventory
from imagesync.lock.lock import Lock, LockedConda

_JSON = "`imagesync lock --format json` writes one that can be read here."


def read_inventory(path: Path) -> Inventory:
    """Return the inventory that a file describes.

    Parameters
    ----------
    path
        Output of ``imagesync lock``, or an image's ``environment.json``.

    Raises
    ------
    UsageError
        The file can't be read or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        raise UsageError(f"{path} can't be read: {reason}") from error
    try:
        return _reader(path)(text)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} isn't a lock that is known here.", hint=_JSON) from error


def _reader(path: Path) -> Callable[[str], Inventory]:
    """Return the parser for a file of that name."""
    if path.suffix in (".yml", ".yaml"):
        return lambda _: _from_lock(_lock_file(path))
    return _from_json


def _lock_file(path: Path) -> Lock:
    import os

    from imagesync.lock.lockfile.read import read_lock

    return read_lock(path, platform=IMAGE_PLATFORM, environ=os.environ).lock


def _from_json(text: str) -> Inventory:
    document = json.loads(text)
    if "inventory" in document:
        return Inventory.from_dict(document)
    return _from_lock(Lock.from_dict(document))


def _from_lock(lock: Lock) -> Inventory:
    return Inventory(sysconfig_platform(lock.target.platform), with_levels(_entries(lock)))


def _entries(lock: Lock) -> Iterator[Entry]:
    reasons: dict[str, str] = {deviation.name: deviation.reason for deviation in lock.deviations}
    python = lock.target.python_version
    yield Entry("python", python, kind="python", reason=reasons.get("python", ""))
    for conda in lock.conda:
        yield from _conda_entries(conda, reasons.get(conda.name, ""))
    for package in lock.packages:
        yield Entry(package.name, package.version, reason=reasons.get(package.name, ""))
    for vendored in lock.vendored:
        # Compare sources, not the wheels built from them.
        is_local = not vendored.repacked
        content = vendored.content if is_local else ""
        reason = reasons.get(vendored.name, "")
        yield Entry(vendored.name, vendored.version, content=content, local=is_local, reason=reason)


def _conda_entries(package: LockedConda, reason: str) -> Iterator[Entry]:
    name, version, build = package.name, package.version, package.build
    if name == "python":
        return
    for distribution in package.distributions:
        yield Entry(distribution, version, manager="conda", conda=name, build=build, reason=reason)
    if not package.distributions:
        yield Entry(name, version, "conda", "conda", conda=name, build=build, reason=reason)
