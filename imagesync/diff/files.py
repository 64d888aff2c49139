"""Inventories from files: a lock, or an inventory that an image holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from imagesync.errors import UsageError
from imagesync.inventory.default_levels import with_levels
from imagesync.inventory.inventory import Entry, Inventory
from imagesync.inventory.planned import sysconfig_platform

_JSON = "`imagesync lock --format json` writes one that can be read here."


def read_inventory(path: Path) -> Inventory:
    """Return what a file says that an environment holds.

    Parameters
    ----------
    path
        What ``imagesync lock`` wrote or printed as JSON, or an image's ``environment.json``.

    Raises
    ------
    UsageError
        It can't be read, or is neither.
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
    """Return what reads a file of that name."""
    if path.suffix in (".yml", ".yaml"):
        return lambda _: _from_lock(_lock_file(path))
    return _from_json


def _lock_file(path: Path) -> dict[str, Any]:
    """Return a lock file of conda-lock's as ``imagesync lock --format json`` would print it."""
    import os

    from imagesync.lock.lockfile.read import read_lock

    read = read_lock(path, platform="linux/amd64", environ=os.environ)
    content = read.lock.to_dict()
    for package in content["vendored"]:
        # Sources are compared, and not the wheel that was made of them.
        known = read.custom_metadata.package("pip", package["name"])
        package.update({key: known[key] for key in ("content", "repacked") if key in known})
    return content


def _from_json(text: str) -> Inventory:
    content = json.loads(text)
    return Inventory.from_dict(content) if "inventory" in content else _from_lock(content)


def _from_lock(content: Mapping[str, Any]) -> Inventory:
    target = content["target"]
    return Inventory(sysconfig_platform(target["platform"]), with_levels(_locked(content)))


def _locked(content: Mapping[str, Any]) -> Iterator[Entry]:
    deviations = {deviation["name"]: deviation for deviation in content["deviations"]}

    def reason(name: str) -> str:
        return str(deviations[name]["reason"]) if name in deviations else ""

    version = content["target"]["python_version"]
    yield Entry("python", version, kind="python", reason=reason("python"))
    for package in content.get("conda", ()):
        yield from _conda(package, reason(package["name"]))
    for package in content["packages"]:
        name = package["name"]
        yield Entry(name, package["version"], reason=reason(name))
    for package in content["vendored"]:
        name = package["name"]
        own = not package.get("repacked")
        content_digest = package["content"] if own else ""
        yield Entry(name, package["version"], content=content_digest, local=own, reason=reason(name))


def _conda(package: Mapping[str, Any], reason: str) -> Iterator[Entry]:
    name, version, build = package["name"], package["version"], package["build"]
    if name == "python":
        return
    for distribution in package["distributions"]:
        yield Entry(distribution, version, manager="conda", conda=name, build=build, reason=reason)
    if not package["distributions"]:
        yield Entry(name, version, "conda", "conda", conda=name, build=build, reason=reason)
