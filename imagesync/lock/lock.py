"""The values of a lock: the exact artifact of each package for one target.

``to_dict`` and ``from_dict`` are the JSON form of a lock (``docs/json.md``), for output, labels and caches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.names import Level
from imagesync.plan.plan import PlannedConda, PlannedPackage
from imagesync.scan.environment import Manager, Source

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


_LISTS = ("depends", "constrains", "distributions")


@dataclass(frozen=True)
class Target:
    """The platform and interpreter of the image, which artifacts must fit.

    Parameters
    ----------
    platform
        ``linux/amd64``.
    python_version
        Of the image's interpreter, with the patch level, such as ``3.12.3``.
    glibc
        Of the base image, such as ``(2, 39)``.
    implementation
        Of the interpreter; always ``cpython``.
    """

    platform: str
    python_version: str
    glibc: tuple[int, int]
    implementation: str = "cpython"

    @property
    def minor(self) -> str:
        """Return the feature version, such as ``3.12``."""
        return ".".join(self.python_version.split(".")[:2])

    def to_dict(self) -> dict[str, Any]:
        """Return the target as documented JSON."""
        return {**asdict(self), "glibc": list(self.glibc)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Target:
        """Return the target of its JSON form."""
        major, minor = document["glibc"]
        return cls(**{**document, "glibc": (major, minor)})


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


@dataclass(frozen=True)
class Deviation:
    """A package whose version in the image differs from the local one, with the reason.

    Parameters
    ----------
    name
        Canonical for a Python distribution; the conda name of a conda package.
    local
        The local version; empty for a package that isn't installed here.
    locked
        The version in the image; empty for a package that no channel has for the image's platform.
    level
        The level of the package.
    reason
        The reason, for the user.
    manager
        ``pip`` or ``conda``.
    requested
        Whether the user requested the package; ``None`` if nothing records it.
    """

    name: NormalizedName | str
    local: str
    locked: str
    level: Level
    reason: str
    manager: Manager = "pip"
    requested: bool | None = None

    @property
    def left_out(self) -> bool:
        """Return True if the image doesn't get the package."""
        return not self.locked

    @property
    def weight(self) -> tuple[bool, str]:
        """Return the sort key of deviations: requested packages that are left out come first."""
        return not (self.left_out and self.requested), self.name

    @property
    def change(self) -> str:
        """Return the local version and the one in the image as a phrase; one version if it is the same."""
        if self.local == self.locked:
            return self.local
        requested = ", though you asked for it" if self.left_out and self.requested else ""
        return f"{self.local or 'not installed here'} -> {self.locked or 'left out'}{requested}"

    @property
    def message(self) -> str:
        """Return the deviation as a line for the user."""
        return f"differs: {self.name} {self.change}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return the deviation as documented JSON."""
        return {**asdict(self), "level": self.level.value}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Deviation:
        """Return the deviation of its JSON form."""
        return cls(**{**document, "level": Level(document["level"])})


@dataclass(frozen=True)
class Lock:
    """The exact content of an image.

    Parameters
    ----------
    target
        The platform and interpreter of the image.
    packages, vendored
        Packages from indexes, and packages made on this machine: sorted by canonical name, disjoint.
    deviations
        Differences from the local environment.
    resolver
        ``uv`` or ``pip-tools``.
    conda
        Sorted by conda name. If Python is among them, it is the image's interpreter.
    channels
        URLs of the conda channels without credentials, the preferred one first.
    """

    target: Target
    packages: tuple[LockedPackage, ...]
    vendored: tuple[VendoredPackage, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    resolver: Literal["uv", "pip-tools"] = "uv"
    conda: tuple[LockedConda, ...] = ()
    channels: tuple[str, ...] = ()

    @property
    def repacked(self) -> tuple[VendoredPackage, ...]:
        """Return the packages of an index that are made from their installed files."""
        return tuple(package for package in self.vendored if package.repacked)

    def repacked_to_list(self) -> list[dict[str, str]]:
        """Return the repacked packages as documented JSON: name, version, content and reason of each."""
        return [
            {"name": p.name, "version": p.version, "content": p.content, "reason": p.repacked}
            for p in self.repacked
        ]

    @property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` over the locked content."""
        content = {
            "target": asdict(self.target),
            "packages": [[p.name, p.version, p.artifact.filename, p.artifact.digest] for p in self.packages],
            "vendored": [[p.name, p.version, p.content] for p in self.vendored],
            "conda": [
                [p.name, p.version, p.build, p.artifact.filename, p.artifact.digest] for p in self.conda
            ],
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def artifacts_digest(self) -> str:
        """Return ``sha256:<hex>`` over the artifacts from indexes and channels.

        It is empty if the digest of one isn't known, as in lock files of other tools.
        """
        digests = [package.artifact.digest for package in self.packages]
        digests += [package.artifact.digest for package in self.conda]
        if not all(digests):
            return ""
        return "sha256:" + hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the lock as documented JSON (``docs/json.md``)."""
        return {
            "digest": self.digest,
            "resolver": self.resolver,
            "target": self.target.to_dict(),
            "channels": list(self.channels),
            "conda": [package.to_dict() for package in self.conda],
            "packages": [package.to_dict() for package in self.packages],
            "vendored": [package.to_dict() for package in self.vendored],
            "deviations": [deviation.to_dict() for deviation in self.deviations],
        }

    @classmethod
    def from_dict(
        cls,
        document: Mapping[str, Any],
        *,
        planned: Mapping[NormalizedName, PlannedPackage] | None = None,
        planned_conda: Mapping[str, PlannedConda] | None = None,
    ) -> Lock:
        """Return the lock of its JSON form.

        Parameters
        ----------
        document
            The result of :meth:`to_dict`; further keys are ignored.
        planned, planned_conda
            The planned packages by name; a vendored package must be among them. ``None`` derives them from
            *document*.

        Raises
        ------
        LookupError, TypeError, ValueError
            The document isn't a lock, or a vendored package isn't planned.
        """
        conda = planned_conda or {}
        return cls(
            target=Target.from_dict(document["target"]),
            packages=tuple(map(LockedPackage.from_dict, document["packages"])),
            vendored=tuple(
                VendoredPackage.from_dict(entry, None if planned is None else planned[entry["name"]])
                for entry in document["vendored"]
            ),
            deviations=tuple(map(Deviation.from_dict, document["deviations"])),
            resolver=document["resolver"],
            conda=tuple(
                LockedConda.from_dict(entry, conda.get(entry["name"])) for entry in document.get("conda", ())
            ),
            channels=tuple(document.get("channels", ())),
        )
