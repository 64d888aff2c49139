"""Inventories of environments and images: their packages, with what a comparison needs.

An inventory has no URLs and no paths, so that it can be written to an image for running processes to read.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from imagesync.core.limits import LABEL, inflate
from imagesync.core.names import Level, canonical_name
from imagesync.core.strict_json import load_json
from imagesync.plan.levels import load_levels, load_profiles
from imagesync.plan.specifiers import arbitrary, compatible, exact, parse_version

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.lock import Lock
    from imagesync.lock.locked_packages import LockedConda
    from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
    from imagesync.scan.environment import Package
    from imagesync.scan.modifications.modification import Modification


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
        Whether it is local code, or a package whose installed files were changed.
    conda, build
        Name and build string of its conda record.
    left_out
        Whether it is left out of the image.
    reason
        Why it deviates from the plan, or from what its installer wrote.
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
            The JSON is malformed.
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
            The JSON is malformed, or of a later format.
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
        return Inventory.from_dict(load_json(inflate(base64.b64decode(text, validate=True), most=LABEL)))
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


def local_inventory(plan: Plan, contents: Mapping[NormalizedName, str]) -> Inventory:
    """Return the inventory of the environment of *plan*, including packages left out of the image.

    Parameters
    ----------
    plan
        Plan of the environment.
    contents
        Digest of the sources of each vendored package.
    """
    return Inventory(plan.python.platform, (*_local(plan, contents),))


def image_inventory(plan: Plan, lock: Lock, *, environment_hash: str) -> Inventory:
    """Return the inventory of the image of *lock*.

    Parameters
    ----------
    plan
        Plan of the lock, with levels and loose code.
    lock
        Lock with the versions in the image.
    environment_hash
        ``sha256:<hex>`` of the image.
    """
    reasons: dict[str, str] = {deviation.name: deviation.reason for deviation in lock.deviations}
    entries = tuple(
        replace(entry, reason=reasons.get(entry.conda or entry.name, "")) for entry in _locked(plan, lock)
    )
    return Inventory(lock.target.platform.sysconfig_name, entries, environment_hash)


def _local(plan: Plan, contents: Mapping[NormalizedName, str]) -> Iterator[Entry]:
    for package in plan.packages:
        entry = _planned(plan, package, version=package.version, content=contents.get(package.name, ""))
        yield _with_modification(entry, package.modification)
    for conda in plan.conda:
        distributions = () if conda.record is None else conda.record.distributions
        for entry in _conda(plan, conda, conda.level, distributions):
            yield _with_modification(entry, conda.modification)
    for left in plan.left_out:
        kind: Kind = "conda" if left.manager == "conda" else "distribution"
        yield Entry(left.name, left.version, kind, left.manager, level=left.level, left_out=True)
    yield from _loose_code(plan)


def _with_modification(entry: Entry, modification: Modification | None) -> Entry:
    """Return *entry* as that of a package whose files were changed here: it counts as local code."""
    if modification is None:
        return entry
    content = entry.content or modification.digest
    return replace(entry, content=content, local=True, reason=f"changed here: {modification.summary}")


def _locked(plan: Plan, lock: Lock) -> Iterator[Entry]:
    planned: dict[str, PlannedPackage] = {package.name: package for package in plan.packages}
    versions: dict[str, str] = {"python": lock.target.python_version}
    versions |= {package.name: package.version for package in lock.packages}
    versions |= {package.name: package.version for package in lock.vendored}
    # A repacked package counts as an index package: equal versions are equal packages.
    contents: dict[str, str] = {
        package.name: package.content for package in lock.vendored if not package.repacked
    }
    for name, version in versions.items():
        if name in planned:
            yield _planned(plan, planned[name], version=version, content=contents.get(name, ""))
        else:
            yield Entry(name, version, level=Level.COMPATIBLE)
    levels = {package.name: package.level for package in plan.conda}
    for conda in lock.conda:
        level = levels.get(conda.name, Level.COMPATIBLE)
        yield from _conda(plan, conda, level, conda.distributions)
    yield from _loose_code(plan)


def _planned(plan: Plan, package: PlannedPackage, *, version: str, content: str) -> Entry:
    is_python = package.name == "python" and package.installed is None
    build = next((conda.build for conda in plan.conda if conda.name == "python"), "") if is_python else ""
    return Entry(
        package.name,
        version,
        kind="python" if is_python else "distribution",
        manager="conda" if build else "" if is_python else "pip",
        level=package.level,
        specifier=package.specifier,
        content=content,
        local=package.vendored,
        conda="python" if build else "",
        build=build,
    )


def _conda(
    plan: Plan, package: PlannedConda | LockedConda, level: Level, distributions: Iterable[str]
) -> Iterator[Entry]:
    """Yield the distributions of a conda package, or the package itself if it has none."""
    name, version, build = package.name, package.version, package.build
    if name == "python":
        return  # Python has its own entry
    provided: dict[str, Package] = {package.name: package for package in plan.provided}
    local = next((conda.version for conda in plan.conda if conda.name == name), "")
    entries = [Entry(name, version, "conda", "conda", conda=name, build=build, level=level)]
    if distributions:
        # A distribution's version may differ from its conda package's.
        entries = [
            Entry(
                distribution,
                provided[distribution].version if distribution in provided and version == local else version,
                manager="conda",
                conda=name,
                build=build,
                level=level,
            )
            for distribution in distributions
        ]
    for entry in entries:
        yield replace(entry, specifier=specifier_for(entry, level))


def _loose_code(plan: Plan) -> Iterator[Entry]:
    if plan.code:
        yield Entry(LOOSE_CODE, "", kind="code", content=plan.code.digest, local=True)
