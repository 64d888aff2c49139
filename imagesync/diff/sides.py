"""Sides of a comparison by their names on the command line: this environment, a lock file, an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.core.image_location import ImageLocation, parse_location
from imagesync.core.image_reference import parse_reference
from imagesync.core.names import canonical_name
from imagesync.core.platforms import this_machine_runs_on
from imagesync.core.strict_json import load_json
from imagesync.errors import EngineNotFound, ImagesyncError, UsageError
from imagesync.image_layout import Label
from imagesync.inventory.comparison import Side
from imagesync.inventory.inventory import Inventory, from_text, local_inventory
from imagesync.lock.lock import Lock
from imagesync.pipeline.local_images import find_local_image, open_local_image
from imagesync.registry.registry import read_config

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_inputs import EnvironmentInputs
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


def find_sides(
    left: str, right: str, *, session: Session, known: Mapping[str, Side] | None = None
) -> tuple[Side, Side]:
    """Return the sides that *left* and *right* name.

    A lock file is read for the environment or image on the other side; two of them are read for the Python of
    the base image.

    Parameters
    ----------
    left, right
        ``local`` for the environment of *session*, a lock file, an environment's folder, or an image.
    session
        Session of the local environment, which is scanned only if a side is ``local``.
    known
        Sides that have been read, by their texts.

    Raises
    ------
    ImagesyncError
        A side doesn't exist or has no readable inventory.
    """
    session = _of_one_platform(session)
    sides = dict(known or {})
    lock_files = [text for text in (left, right) if text not in sides and _is_lock_file(Path(text))]
    environments: dict[str, EnvironmentInputs] = {}
    for text in (left, right):
        if text in sides or text in lock_files:
            continue
        environment = _environment_session(text, session)
        if environment is None:
            sides[text] = _find_side(text, session)
            continue
        inputs = environments[text] = environment.inputs()
        sides[text] = Side(text, {text: local_inventory(inputs.plan, inputs.source_digests)})
    if lock_files:
        other = next((sides[text] for text in (left, right) if text in sides), None)
        sides |= _lock_sides(lock_files, session, other, next(iter(environments.values()), None))
    first = next(iter(environments), None)
    if first is not None:
        opposite = right if first == left else left
        sides[opposite] = _with_same_sources(sides[opposite], environments[first])
    return sides[left], sides[right]


def _with_same_sources(side: Side, inputs: EnvironmentInputs) -> Side:
    """Return *side* with the digests of sources here for packages whose wheel stayed the same.

    A file that was written beside the sources of a package is no difference.
    """
    from imagesync.pipeline.lock_drift import same_sources

    members: dict[str, Inventory] = {}
    same: dict[frozenset[tuple[NormalizedName, str]], frozenset[NormalizedName]] = {}
    for member, inventory in side.members.items():
        local = [entry for entry in inventory.entries if entry.kind == "distribution" and entry.local]
        others = {canonical_name(entry.name): entry.content for entry in local if entry.content}
        key = frozenset(others.items())  # most members of a cluster have the same
        if key not in same:
            same[key] = same_sources(others, inputs)
        here: dict[str, str] = {name: inputs.source_digests[name] for name in same[key]}
        entries = (
            replace(entry, content=here.get(entry.name, entry.content)) if entry in local else entry
            for entry in inventory.entries
        )
        members[member] = replace(inventory, entries=tuple(entries)) if here else inventory
    return replace(side, members=members)


def _of_one_platform(session: Session) -> Session:
    """Return the session for one of several platforms: this machine's if it is among them, else the first."""
    contexts = session.context.for_platforms()
    chosen = next((each for each in contexts if this_machine_runs_on(each.platform)), contexts[0])
    return session if chosen is session.context else replace(session, context=chosen)


def _is_lock_file(path: Path) -> bool:
    if path.name == "Pipfile.lock":  # JSON, and pipenv's
        return _is_file(path)
    return _is_file(path) and not (path.suffix == ".json" or _first_byte(path) == b"{")


def _is_file(path: Path) -> bool:
    """Return True if there is such a file; references may be longer than the names of files."""
    try:
        return path.is_file()
    except OSError:
        return False


def _environment_session(text: str, session: Session) -> Session | None:
    """Return the session of the environment that *text* names; ``None`` if it names none."""
    if text == LOCAL:
        return session
    try:
        is_folder = Path(text).is_dir()
    except OSError:  # as in _is_file
        return None
    return _folder_session(session, Path(text)) if is_folder else None


def _lock_sides(
    texts: Sequence[str], session: Session, other: Side | None, inputs: EnvironmentInputs | None
) -> Mapping[str, Side]:
    from imagesync.diff.lock_files import OtherSide, lock_inventories

    entries = next(iter(other.members.values())).entries if other is not None else ()
    python = next((entry.version for entry in entries if entry.kind == "python"), "")
    if not python:
        from imagesync.pipeline.builders import base_finder

        with base_finder(session.context) as finder:
            python = finder().base_to_read_for().python_version
    read_for = OtherSide(python, entries, inputs)
    inventories = lock_inventories([Path(text) for text in texts], session.context, other=read_for)
    return {text: Side(text, {text: one}) for text, one in zip(texts, inventories, strict=True)}


def _find_side(text: str, session: Session) -> Side:
    """Return the side of a JSON document or an image."""
    path = Path(text)
    if _is_file(path):
        return Side(text, {text: read_inventory(path)})
    if path.suffix in _FILES or text.startswith((".", "/", "~")):
        raise UsageError(
            f"{text} isn't there.", hint="Give a lock file, an environment's folder, or an image."
        )
    if "://" in text:
        raise UsageError(
            f"{text} isn't the address of a scheduler.", hint="An address starts with tcp:// or tls://."
        )
    return Side(text, {text: read_image(text, session.context)})


def local_side(session: Session) -> LocalSide:
    """Return the inventory and the folder of the environment of *session*.

    Raises
    ------
    ScanError, PlanError, WheelError
        The environment can't be read, or no image can be made of it.
    """
    inputs = _of_one_platform(session).inputs()
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


def _first_byte(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1)
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}.", hint="Check its permissions, or name another file."
        ) from error


def _from_json(text: str) -> Inventory:
    from imagesync.diff.lock_files import inventory_of

    document = load_json(text)
    if "inventory" in document:
        return Inventory.from_dict(document)
    return inventory_of(Lock.from_dict(document))


def read_image(text: str, context: Context) -> Inventory:
    """Return the inventory of an image, from the label that its build wrote; no layer is read.

    A reference is looked up in the cache folder, then in the engine, if one answers, and then in the registry
    that it names.

    Parameters
    ----------
    text
        A reference, or a location such as ``oci:DIR:TAG``.
    context
        Says where the cache folder and the engine are.

    Raises
    ------
    ImagesyncError
        The image doesn't exist or has no readable inventory.
    RegistryError
        The registry refuses or doesn't answer.
    """
    labels = _labels(text, context)
    inventory = from_text(labels.get(Label.INVENTORY, ""))
    if inventory is not None:
        return inventory
    built_here = Label.ENVIRONMENT_HASH in labels
    why = "another version of imagesync built it" if built_here else "it wasn't built by imagesync"
    raise ImagesyncError(
        f"{text} has no readable inventory: {why}.",
        hint="Rebuild it: imagesync build. A running cluster of it can be compared as it is:"
        " imagesync diff local tcp://HOST:8786",
    )


def _labels(text: str, context: Context) -> Mapping[str, str]:
    location = parse_location(text, given_as="image")
    if location.transport in ("registry", "docker-daemon"):
        if location.transport == "registry":
            kept = find_local_image(text, platform=context.platform, cache=context.cache_folder)
            if kept is not None:
                return kept.config.container.labels
        return _labels_of_reference(location, context)
    cache, progress = context.cache_folder, context.progress
    with open_local_image(
        text, platform=context.platform, cache=cache, progress=progress, lazy=True
    ) as local:
        return local.image.config.container.labels


def _labels_of_reference(location: ImageLocation, context: Context) -> Mapping[str, str]:
    """Return the labels of an image that an engine or a registry has."""
    reference = location.path
    parsed = parse_reference(reference)
    may_be_in_registry = parsed.names_registry and location.transport == "registry"
    insecure = False
    try:
        with context.open_engine() as engine:
            image = engine.inspect(reference)
            if image is not None:
                return image.labels
            insecure = engine.takes_without_tls(parsed.domain)
    except EngineNotFound:
        # A registry can be read without an engine.
        if not may_be_in_registry:
            raise
    if may_be_in_registry:
        return _in_registry(reference, context, insecure=insecure)
    raise ImagesyncError(
        f"The engine has no image {reference}.",
        hint="See `docker images`. An image in a registry needs its name: registry.example.com/name:tag",
    )


def _in_registry(reference: str, context: Context, *, insecure: bool) -> Mapping[str, str]:
    timeout = context.settings.timeout
    remote = read_config(reference, platform=context.platform.name, insecure=insecure, timeout=timeout)
    if remote is None:
        raise ImagesyncError(
            f"Neither the engine nor the registry has an image {reference}.",
            hint="See `docker images`, and whether it was pushed: imagesync build --push",
        )
    return remote.labels
