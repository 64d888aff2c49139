"""An inventory: what a Python environment holds, as far as comparing goes.

It has no URLs and no paths, so it can go into an image, where a running process finds it.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from imagesync.core.names import Level

Kind = Literal["python", "distribution", "conda", "code"]
FORMAT: Final = 1
LOOSE_CODE: Final = "(loose code)"
"""What stands for the modules of no package; no distribution can be called that."""


@dataclass(frozen=True)
class Entry:
    """One thing that an environment holds.

    Parameters
    ----------
    name
        Canonical (PEP 503); of a conda package that is no Python distribution, conda's name.
    version
        As its metadata writes it; empty for what the settings add on the cluster, and for loose code.
    kind
        ``conda`` is what only conda knows, such as openssl.
    manager
        ``pip`` or ``conda``; empty where nothing says.
    level
        How closely the other side must match; ``None`` where nobody planned it.
    specifier
        The versions that the level allows (PEP 440).
    content
        Of local code: ``sha256:<hex>`` of what it is made from. Empty for what comes from an index, and where
        nothing says.
    local
        Whether it is local code.
    conda, build
        Of what conda installed: the name of its record, and the build string.
    left_out
        Whether it stays out of the image on purpose.
    reason
        Why its version isn't the one that was asked for, in words.
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
        """Return what makes it the same thing on another side."""
        return self.name, self.kind

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON: name and version, and what isn't as usual."""
        usual = {field.name: field.default for field in fields(self)}
        known = {key: value for key, value in asdict(self).items() if value != usual[key]}
        if self.level is not None:
            known["level"] = self.level.value
        return {"name": self.name, "version": self.version, **known}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Entry:
        """Return the entry that :meth:`to_dict` made; keys of later versions are passed over.

        Raises
        ------
        ValueError, LookupError, TypeError
            It isn't one.
        """
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        level = values.pop("level", None)
        if not isinstance(values["name"], str) or not isinstance(values["version"], str):
            raise TypeError("name and version are texts")
        return cls(**values, level=None if level is None else Level(level))


@dataclass(frozen=True)
class Inventory:
    """What an environment holds.

    Parameters
    ----------
    platform
        As ``sysconfig.get_platform()`` says: ``linux-x86_64``, ``macosx-14.0-arm64``.
    entries
        Sorted by name; Python itself is the entry ``python``.
    environment_hash
        Of an image: ``sha256:<hex>``. Empty otherwise.
    """

    platform: str
    entries: tuple[Entry, ...]
    environment_hash: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(sorted(self.entries, key=lambda entry: entry.key)))

    @property
    def by_key(self) -> dict[tuple[str, str], Entry]:
        """Return the entries by what makes them the same thing on another side."""
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
        """Return the inventory that :meth:`to_dict` made.

        Raises
        ------
        ValueError, LookupError, TypeError
            It isn't one, or one of a later format.
        """
        if content["inventory"] != FORMAT:
            raise ValueError(f"an inventory of format {content['inventory']!r}")
        entries = tuple(Entry.from_dict(entry) for entry in content["packages"])
        return cls(str(content["platform"]), entries, str(content["environment_hash"]))


def to_json(inventory: Inventory) -> str:
    """Return the text of the file that an image holds; the same inventory, the same text."""
    return json.dumps(inventory.to_dict(), indent=1, sort_keys=True) + "\n"


def to_text(inventory: Inventory) -> str:
    """Return an inventory as one line of ASCII, compressed, for a label."""
    canonical = json.dumps(inventory.to_dict(), sort_keys=True, separators=(",", ":"))
    return base64.b64encode(zlib.compress(canonical.encode(), 9)).decode()


def from_text(text: str) -> Inventory | None:
    """Return what :func:`to_text` made into text; ``None`` where it isn't that."""
    try:
        return Inventory.from_dict(json.loads(zlib.decompress(base64.b64decode(text, validate=True))))
    except (binascii.Error, zlib.error, ValueError, LookupError, TypeError, AttributeError):
        return None
