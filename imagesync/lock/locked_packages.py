"""The packages of a lock: from indexes, from conda channels, and those whose wheels are made here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.names import Level
from imagesync.plan.plan import PlannedConda, PlannedPackage
from imagesync.scan.environment import Source

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_LISTS = ("depends", "constrains", "distributions")


@dataclass(frozen=True)
class Artifact:
    """A file of an index or channel: a wheel, an sdist, or a conda archive.

    Parameters
    ----------
    filename
        Its name in the index.
    url
        ``https://`` or ``file://``, without credentials.
    digest
        ``sha256:<hex>``.
    size
        In bytes; ``None`` if the index doesn't say.
    """

    filename: str
    url: str
    digest: str
    size: int | None = None

    @property
    def is_wheel(self) -> bool:
        """Return True if the file is a wheel."""
        return self.filename.endswith(".whl")

    @property
    def is_compiled(self) -> bool:
        """Return True if the file is a wheel for certain platforms."""
        return self.is_wheel and not self.filename.endswith("-any.whl")

    def to_dict(self) -> dict[str, Any]:
        """Return the artifact as documented JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LockedPackage:
    """A package from an index, with the artifact that the image gets.

    Parameters
    ----------
    name
        The canonical name.
    version
        As in the metadata of the artifact.
    artifact
        The wheel or sdist.
    planned
        The planned package, if the same version is installed: its files replace an sdist that can't be
        built. Not part of the locked content.
    """

    name: NormalizedName
    version: str
    artifact: Artifact
    planned: PlannedPackage | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return {"name": self.name, "version": self.version, "artifact": self.artifact.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LockedPackage:
        """Return the package of its JSON form."""
        return cls(document["name"], document["version"], Artifact(**document["artifact"]))


@dataclass(frozen=True)
class LockedConda:
    """A conda package, with the archive that the image gets.

    Parameters
    ----------
    name
        The conda name.
    channel
        The URL of the channel, without credentials and without the subdirectory.
    subdir
        ``linux-64`` or ``noarch``.
    artifact
        The archive, ``.conda`` or ``.tar.bz2``.
    md5
        Of the archive, in hex; empty if unknown.
    noarch
        ``python``, ``generic``, or empty for a package of the platform.
    depends, constrains
        Match specs.
    distributions
        The canonical names of the Python distributions that it provides.
    planned
        The planned package; ``None`` for a dependency that the plan lacks. Not part of the locked content.
    """

    name: str
    version: str
    build: str
    channel: str
    subdir: str
    artifact: Artifact
    build_number: int = 0
    md5: str = ""
    noarch: Literal["", "python", "generic"] = ""
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    distributions: tuple[NormalizedName, ...] = ()
    planned: PlannedConda | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.compare}
        lists = {key: list(document[key]) for key in _LISTS}
        return {**document, **lists, "artifact": self.artifact.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], planned: PlannedConda | None = None) -> LockedConda:
        """Return the package of its JSON form; keys with a default may be missing."""
        lists = {key: tuple(document.get(key, ())) for key in _LISTS}
        return cls(**{**document, **lists, "artifact": Artifact(**document["artifact"])}, planned=planned)


@dataclass(frozen=True)
class VendoredPackage:
    """A package whose wheel is made on this machine, from its sources or from its installed files.

    Parameters
    ----------
    name
        The canonical name.
    version
        The version of the wheel, once that is made.
    content
        The digest of what the wheel is made from: the source tree, the commit, or RECORD.
    planned
        The planned package.
    repacked
        Why a package of an index is made from its installed files; empty for a package of no index.
    """

    name: NormalizedName
    version: str
    content: str
    planned: PlannedPackage
    repacked: str = ""

    @property
    def is_bundled(self) -> bool:
        """Return True if the wheel came with a lock file; its URL and hash are then the source."""
        source = self.planned.source
        return self.planned.installed is None and (source.url or "").endswith(".whl")

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "content": self.content,
            "source": self.planned.source.to_dict(),
            "repacked": self.repacked,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], planned: PlannedPackage | None = None) -> VendoredPackage:
        """Return the package of its JSON form; without *planned*, the plan is an exact version."""
        name, version = document["name"], document["version"]
        source = Source(**document.get("source", {}))
        planned = planned or PlannedPackage(name, version, Level.EXACT, f"=={version}", "", source)
        return cls(name, version, document["content"], planned, document["repacked"])
