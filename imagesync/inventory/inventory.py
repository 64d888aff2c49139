"""Inventories: the packages of an environment, with what a comparison needs.

An inventory has no URLs and no paths, so that it can be written to an image for running processes to read.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from imagesync.core.names import Level, canonical_name
from imagesync.plan.levels import load_levels, load_profiles
from imagesync.plan.specifiers import arbitrary, compatible, exact, parse_version

Kind = Literal["python", "distribution", "conda", "code"]
FORMAT: Final = 1
LOOSE_CODE: Final = "(loose code)"
"""Entry name of modules that belong to no package; invalid as a distribution's name."""


@dataclass(frozen=True)
class Entry:
    """One package of an environment, or its Python or loose code.

    Parameters
    ----------
    name
        Canonical name (PEP 503); for a conda package without a Python distribution, its conda name.
    version
        Version as in its metadata; empty for loose code and for packages added by the settings.
    kind
        ``conda`` for packages without a Python distribution, such as openssl.
    manager
        ``pip`` or ``conda``; empty if unknown.
    level
        How closely the other side must match; ``None`` without a plan.
    specifier
        Specifier of the versions that the level allows (PEP 440).
    content
        Digest of the sources of local code, ``sha256:<hex>``; empty for packages of an index, and if unknown.
    local
        Whether it is local code.
    conda, build
        Name and build string of its conda record.
    left_out
        Whether it is left out of the image.
    reason
        Why its version deviates from the planned one.
    """

    name: str
    version: str
    kind: Kind = "distribution"
    manager: Literal["", "pip", "conda"] = "pip"
    level: Level | None = None
    specifier: str = ""
    content: str = ""
    local: bool = False
    conda: str = ""
    build: str = ""
    left_out: bool = False
    reason: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Name and kind, which identify the entry on both sides."""
        return self.name, self.kind

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON: name, version, and values that aren't the defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        values = {key: value for key, value in asdict(self).items() if value != defaults[key]}
        if self.level is not None:
            values["level"] = self.level.value
        return {"name": self.name, "version": self.version, **values}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Entry:
        """Return the entry from the JSON of :meth:`to_dict`; unknown keys are ignored.

        Raises
        ------
        ValueError, LookupError, TypeError
            The JSON has another form.
        """
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        level = values.pop("level", None)
        if not isinstance(values["name"], str) or not isinstance(values["version"], str):
            raise TypeError("name and version are texts")
        return cls(**values, level=None if level is None else Level(level))


@dataclass(frozen=True)
class Inventory:
    """The packages of an environment.

    Parameters
    ----------
    platform
        Platform as in ``sysconfig.get_platform()``: ``linux-x86_64``, ``macosx-14.0-arm64``.
    entries
        Sorted by name; Python is the entry ``python``.
    environment_hash
        ``sha256:<hex>`` of an image; empty otherwise.
    """

    platform: str
    entries: tuple[Entry, ...]
    environment_hash: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(sorted(self.entries, key=lambda entry: entry.key)))

    @property
    def by_key(self) -> dict[tuple[str, str], Entry]:
        """Entries by name and kind."""
        return {entry.key: entry for entry in self.entries}

    def to_dict(self) -> dict[str, Any]:
        """Return the inventory as documented JSON (``docs/json.md``)."""
        return {
            "inventory": FORMAT,
            "environment_hash": self.environment_hash,
            "platform": self.platform,
            "packages": [entry.to_dict() for entry in self.entries],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Inventory:
        """Return the inventory from the JSON of :meth:`to_dict`.

        Raises
        ------
        ValueError, LookupError, TypeError
            The JSON has another form or a later format.
        """
        if content["inventory"] != FORMAT:
            raise ValueError(f"an inventory of format {content['inventory']!r}")
        entries = tuple(Entry.from_dict(entry) for entry in content["packages"])
        return cls(str(content["platform"]), entries, str(content["environment_hash"]))


def to_json(inventory: Inventory) -> str:
    """Return the canonical text of an image's ``environment.json``."""
    return json.dumps(inventory.to_dict(), indent=1, sort_keys=True) + "\n"


def to_text(inventory: Inventory) -> str:
    """Return an inventory as a label's value: compressed, one line of ASCII."""
    canonical = json.dumps(inventory.to_dict(), sort_keys=True, separators=(",", ":"))
    return base64.b64encode(zlib.compress(canonical.encode(), 9)).decode()


def from_text(text: str) -> Inventory | None:
    """Return the inventory from a label's value, or ``None`` if it is invalid."""
    try:
        return Inventory.from_dict(json.loads(zlib.decompress(base64.b64decode(text, validate=True))))
    except (binascii.Error, zlib.error, ValueError, LookupError, TypeError, AttributeError):
        return None


def with_levels(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return *entries* with the shipped levels for those that have none."""
    entries = tuple(entries)
    names = {entry.name for entry in entries}
    rules = load_levels()
    critical = {
        package.name
        for profile in load_profiles().values()
        if not names.isdisjoint(profile.chosen_by)
        for package in profile.critical
    }

    def level(entry: Entry) -> Level:
        if entry.kind == "python" or entry.name in critical:
            return Level.CRITICAL
        rule = rules.find(canonical_name(entry.name))
        return Level.COMPATIBLE if rule is None else rule.level

    return tuple(_with_level(entry, level(entry)) if entry.level is None else entry for entry in entries)


def _with_level(entry: Entry, level: Level) -> Entry:
    if entry.kind == "code":
        return entry
    return replace(entry, level=level, specifier=specifier_for(entry, level))


def specifier_for(entry: Entry, level: Level) -> str:
    """Return the specifier of the versions that *level* allows for *entry*."""
    version = parse_version(entry.version)
    if version is None:
        return arbitrary(entry.version) or ""
    if entry.kind == "python":
        return f"=={version.major}.{version.minor}.*"
    return exact(version) if level.is_pinned else compatible(version)
