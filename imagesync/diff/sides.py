"""Sides of a comparison by their names on the command line: this environment, a lock file, an image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.core.image_reference import check_reference, parse_reference
from imagesync.core.platforms import sysconfig_platform
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.errors import EngineNotFound, ImagesyncError, UsageError
from imagesync.image_layout import Label
from imagesync.inventory.comparison import Side
from imagesync.inventory.inventory import Entry, Inventory, from_text, local_inventory, with_levels
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import LockedConda
from imagesync.registry.registry import read_config

if TYPE_CHECKING:
    from imagesync.scan.environment import Environment
    from imagesync.session import Session


LOCAL: Final = "local"
_FILES = (".json", ".yml", ".yaml", ".lock", ".txt", ".toml")
_JSON = "`imagesync lock --format json` writes one that it can read."


@dataclass(frozen=True)
class LocalSide:
    """The inventory and the folder of a local environment.

    Members of a cluster that run in the same folder share the environment.

    Parameters
    ----------
    inventory
        Inventory of the environment.
    prefix
        Folder of the environment.
    """

    inventory: Inventory
    prefix: str


def find_side(text: str, *, session: Session) -> Side:
    """Return the side that *text* names.

    Parameters
    ----------
    text
        ``local`` for the environment of *session*, a lock file, an environment's folder, or an image.
    session
        Session of the local environment.

    Raises
    ------
    ImagesyncError
        The side doesn't exist or has no readable inventory.
    """
    if text == LOCAL:
        return Side(LOCAL, {LOCAL: local_side(session).inventory})
    path = Path(text)
    if path.is_dir():
        return Side(text, {text: local_side(_folder_session(session, path)).inventory})
    if path.is_file():
        return Side(text, {text: _file_inventory(path, session)})
    if path.suffix in _FILES or text.startswith((".", "/", "~")):
        raise UsageError(
            f"{text} isn't there.", hint="Give a lock file, an environment's folder, or an image."
        )
    if "://" in text:
        raise UsageError(
            f"{text} isn't the address of a scheduler.", hint="An address starts with tcp:// or tls://."
        )

    return Side(text, {text: read_image(text, environ=session.context.environ)})


def local_side(session: Session) -> LocalSide:
    """Return the inventory and the folder of the environment of *session*.

    Raises
    ------
    ScanError, PlanError, WheelError
        The environment can't be read, or no image can be made of it.
    """
    inputs = session.inputs()
    inventory = local_inventory(inputs.plan, inputs.source_digests)
    return LocalSide(inventory, inputs.environment.python.prefix)


def _folder_session(session: Session, folder: Path) -> Session:
    """Return a session of the environment in *folder*, with its interpreter if there is one."""
    names = ("bin/python", "Scripts/python.exe", "python.exe")
    python = next((folder / name for name in names if (folder / name).is_file()), None)
    return replace(session, python=python, prefix=folder if python is None else None, discovers=False)


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
        return _from_json(text)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} isn't a lock that imagesync can read.", hint=_JSON) from error


def _file_inventory(path: Path, session: Session) -> Inventory:
    """Return the inventory of a JSON document or a lock file, which is read for the local Python."""
    from imagesync.pipeline.lock_drift import read_to_compare, with_sources

    if path.suffix == ".json" or _first_byte(path) == b"{":
        return read_inventory(path)
    read = read_to_compare(path, session.context, python=lambda: session.scan().python.version)
    lock = read.lock
    if not all(package.content for package in lock.vendored):
        lock = replace(lock, vendored=with_sources(lock.vendored, session.inputs()))
    if not lock.target.python_version:
        python = session.scan().python.version
        lock = replace(lock, target=replace(lock.target, python_version=python))
    if read.custom_metadata.is_ours or not lock.conda:
        return _from_lock(lock)
    environment = session.scan()
    found = _from_lock(_with_distributions(lock, environment))
    return replace(found, entries=tuple(_with_local_versions(found.entries, environment)))


def _first_byte(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1)
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}.", hint="Check its permissions, or name another file."
        ) from error


def _with_distributions(lock: Lock, environment: Environment) -> Lock:
    """Return the lock of another tool, whose file doesn't say which distributions a conda package provides.

    They are those of the installed package of the name.
    """
    known = {record.name: record.distributions for record in environment.conda}
    conda = (
        package
        if package.distributions
        else replace(package, distributions=tuple(known.get(package.name, ())))
        for package in lock.conda
    )
    return replace(lock, conda=tuple(conda))


def _with_local_versions(entries: Iterable[Entry], environment: Environment) -> Iterator[Entry]:
    """Yield *entries* with the versions of distributions, which may not be their conda packages'."""
    records = {record.name: record.version for record in environment.conda}
    versions: dict[str, str] = {package.name: package.version for package in environment.packages}
    for entry in entries:
        is_same = entry.kind == "distribution" and records.get(entry.conda) == entry.version
        yield replace(entry, version=versions.get(entry.name, entry.version)) if is_same else entry


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
    build = next((conda.build for conda in lock.conda if conda.name == "python"), "")
    of_python = Entry("python", python, kind="python", reason=reasons.get("python", ""))
    yield replace(of_python, manager="conda", conda="python", build=build) if build else of_python
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


def read_image(reference: str, *, environ: Mapping[str, str]) -> Inventory:
    """Return the inventory of an image, from the label that its build wrote.

    The image is looked up in the engine, if one answers, and then in the registry that the reference names.

    Parameters
    ----------
    reference
        Reference of the image.
    environ
        Environment variables, by which the engine is found.

    Raises
    ------
    ImagesyncError
        The image doesn't exist or has no readable inventory.
    RegistryError
        The registry refuses or doesn't answer.
    """
    labels = _labels(reference, environ=environ)
    inventory = from_text(labels.get(Label.INVENTORY, ""))
    if inventory is not None:
        return inventory
    built_here = Label.ENVIRONMENT_HASH in labels
    why = "another version of imagesync built it" if built_here else "it wasn't built by imagesync"
    raise ImagesyncError(
        f"{reference} has no readable inventory: {why}.",
        hint="Rebuild it: imagesync build. A running cluster of it can be compared as it is:"
        " imagesync diff local tcp://HOST:8786",
    )


def _labels(reference: str, *, environ: Mapping[str, str]) -> Mapping[str, str]:
    check_reference(reference, given_as="image")
    parsed = parse_reference(reference)
    insecure = False
    try:
        with Engine(find_endpoint(environ)) as engine:
            image = engine.inspect(reference)
            if image is not None:
                return image.labels
            insecure = engine.takes_without_tls(parsed.domain)
    except EngineNotFound:
        # A registry can be read without an engine.
        if not parsed.names_registry:
            raise
    if parsed.names_registry:
        return _in_registry(reference, insecure=insecure)
    raise ImagesyncError(
        f"The engine has no image {reference}.",
        hint="See `docker images`. An image in a registry needs its name: registry.example.com/name:tag",
    )


def _in_registry(reference: str, *, insecure: bool) -> Mapping[str, str]:
    remote = read_config(reference, insecure=insecure)
    if remote is None:
        raise ImagesyncError(
            f"Neither the engine nor the registry has an image {reference}.",
            hint="See `docker images`, and whether it was pushed: imagesync build --push",
        )
    return remote.labels
