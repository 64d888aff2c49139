"""What a lock says: the exact artifact of each package for one target."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.names import Level
from imagesync.plan.plan import PlannedConda, PlannedPackage
from imagesync.scan.environment import Manager

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


@dataclass(frozen=True)
class Target:
    """What the image runs: the platform and interpreter that artifacts must fit.

    Parameters
    ----------
    platform
        ``linux/amd64``.
    python_version
        The image's interpreter with its patch level, such as ``3.12.3``.
    glibc
        The base image's, such as ``(2, 39)``.
    """

    platform: str
    python_version: str
    glibc: tuple[int, int]
    implementation: str = "cpython"

    @property
    def minor(self) -> str:
        """Return the feature version, such as ``3.12``."""
        return ".".join(self.python_version.split(".")[:2])


@dataclass(frozen=True)
class Artifact:
    """A file of an index: a wheel, or an sdist that a wheel is built from.

    Parameters
    ----------
    url
        ``https://`` or ``file://``, without credentials.
    digest
        ``sha256:<hex>``.
    size
        In bytes; ``None`` where the index doesn't say.
    """

    filename: str
    url: str
    digest: str
    size: int | None = None

    @property
    def is_wheel(self) -> bool:
        """Return whether the file is a wheel."""
        return self.filename.endswith(".whl")


@dataclass(frozen=True)
class LockedPackage:
    """A package from an index, with the artifact that the image gets.

    Parameters
    ----------
    planned
        What is installed here, where it is of the same version: its files stand in for an sdist that
        can't be built. No part of what is locked.
    """

    name: NormalizedName
    version: str
    artifact: Artifact
    planned: PlannedPackage | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return {"name": self.name, "version": self.version, "artifact": vars(self.artifact).copy()}


@dataclass(frozen=True)
class LockedConda:
    """A conda package, with the archive that the image gets.

    Parameters
    ----------
    name
        Its conda name.
    channel
        The channel's URL, without credentials and without the subdirectory.
    subdir
        ``linux-64`` or ``noarch``.
    artifact
        The archive, ``.conda`` or ``.tar.bz2``.
    md5
        In hex; empty where nothing says.
    noarch
        ``python``, ``generic``, or empty for a package of the platform.
    distributions
        The canonical names of the Python distributions that it provides.
    planned
        What the plan says of it; ``None`` where it came in with another one. No part of what is locked.
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
        return {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "channel": self.channel,
            "subdir": self.subdir,
            "artifact": vars(self.artifact).copy(),
            "distributions": list(self.distributions),
        }


@dataclass(frozen=True)
class VendoredPackage:
    """A package whose wheel is made on this machine, from sources or from what is installed.

    Parameters
    ----------
    content
        What the wheel is made from, as a digest: of the source tree, the commit, or RECORD.
    repacked
        Why a package of an index is made from its installed files; empty for what comes from no index.
    """

    name: NormalizedName
    version: str
    content: str
    planned: PlannedPackage
    repacked: str = ""

    @property
    def is_given(self) -> bool:
        """Return whether a lock file brought the wheel itself: its source is that file, with its hash."""
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


@dataclass(frozen=True)
class Deviation:
    """A package whose version in the image differs from the local one, and why.

    Parameters
    ----------
    name
        Canonical for a Python distribution; a conda package's own.
    local
        Empty for a package that isn't installed here.
    locked
        Empty for a package that the image goes without, because no channel has it for its platform.
    requested
        Whether the user asked for the package; ``None`` where nothing says.
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
        """Return whether the image goes without the package."""
        return not self.locked

    @property
    def weight(self) -> tuple[bool, str]:
        """Return what deviations are sorted by: what was asked for and is left out comes first."""
        return not (self.left_out and self.requested), self.name

    @property
    def change(self) -> str:
        """Return the local version and what the image has instead, in a few words."""
        asked = ", though you asked for it" if self.left_out and self.requested else ""
        return f"{self.local or 'not installed here'} -> {self.locked or 'left out'}{asked}"

    def to_dict(self) -> dict[str, Any]:
        """Return the deviation as documented JSON."""
        return {**asdict(self), "level": self.level.value}


@dataclass(frozen=True)
class Lock:
    """Exactly what the image holds.

    Parameters
    ----------
    packages, vendored
        Sorted by canonical name, and disjoint.
    resolver
        ``uv`` or ``pip-tools``.
    conda
        Sorted by conda name; Python among them makes it the image's interpreter.
    channels
        Where they come from, first the one that wins; URLs without credentials.
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
        """Return what is repacked as documented JSON: of each package name, version, content and reason."""
        return [
            {"name": p.name, "version": p.version, "content": p.content, "reason": p.repacked}
            for p in self.repacked
        ]

    @property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` over what is locked; the same lock, the same digest."""
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

    def to_dict(self) -> dict[str, Any]:
        """Return the lock as documented JSON (``docs/json.md``)."""
        return {
            "digest": self.digest,
            "resolver": self.resolver,
            "target": asdict(self.target),
            "channels": list(self.channels),
            "conda": [package.to_dict() for package in self.conda],
            "packages": [package.to_dict() for package in self.packages],
            "vendored": [package.to_dict() for package in self.vendored],
            "deviations": [deviation.to_dict() for deviation in self.deviations],
        }
