"""What a plan says: for each package how closely the image must match, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.names import Level
from imagesync.plan.loose_code import Code
from imagesync.scan.environment import CondaRecord, Finding, Interpreter, Manager, Package, Source

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


@dataclass(frozen=True)
class PlannedPackage:
    """A package that the image must hold.

    Parameters
    ----------
    version
        The local version; empty for a package that only the cluster gets.
    specifier
        The versions that are allowed (PEP 440), such as ``~=1.4.3``; may be empty.
    reason
        Why this level, in words.
    extras
        Only of packages that the cluster adds: ``torch[cuda]`` has ``("cuda",)``.
    installed
        The scanned package; ``None`` for a package that only the cluster gets, and for Python itself.
    """

    name: NormalizedName
    version: str
    level: Level
    specifier: str
    reason: str
    source: Source = field(default_factory=Source)
    requested: bool | None = None
    extras: tuple[str, ...] = ()
    installed: Package | None = None

    @property
    def vendored(self) -> bool:
        """Return whether the wheel comes from this machine and not from an index."""
        return self.source.kind != "index"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "level": self.level.value,
            "specifier": self.specifier,
            "reason": self.reason,
            "source": self.source.to_dict(),
            "requested": self.requested,
        }


@dataclass(frozen=True)
class PlannedConda:
    """A conda package that the image must hold.

    Parameters
    ----------
    name
        Its conda name, which may be another one than that of the distributions it provides.
    version, build
        The local ones; empty for a package that only the cluster gets.
    specifier
        The versions that are allowed, as a conda match spec writes them, such as ``~=1.26.4``; may be empty.
    reason
        Why this level, in words.
    record
        The installed record; ``None`` for a package that only the cluster gets.
    """

    name: str
    version: str
    build: str
    level: Level
    specifier: str
    reason: str
    requested: bool | None = None
    record: CondaRecord | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "level": self.level.value,
            "specifier": self.specifier,
            "reason": self.reason,
            "requested": self.requested,
            "distributions": list(self.record.distributions) if self.record is not None else [],
        }


@dataclass(frozen=True)
class LeftOut:
    """A package that is installed here and won't be in the image, with the reason.

    Parameters
    ----------
    name
        Canonical; of a conda package its conda name.
    """

    name: str
    version: str
    level: Level
    reason: str
    requested: bool | None = None
    manager: Manager = "pip"

    @property
    def missed(self) -> bool:
        """Return whether the user asked for it, and it isn't one that no image has a use for."""
        return bool(self.requested) and self.level is not Level.IGNORE

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return {**asdict(self), "level": self.level.value}


@dataclass(frozen=True)
class Plan:
    """What the image must hold, known before anything is fetched.

    Parameters
    ----------
    python
        The local interpreter; the image's has the same feature version.
    packages
        Sorted by canonical name; Python itself is the entry ``python``.
    apt
        System packages, sorted.
    code
        Modules of no package, and where they lie on this machine.
    profile
        The profile's name, such as ``dask``.
    critical_imports
        Import names of the critical packages, for the check of the built image.
    platform
        The target, ``linux/amd64``.
    conda
        Sorted by conda name; what they provide isn't among *packages*.
    channels
        Where conda packages come from, first the one that wins; URLs without credentials.
    interpreter
        Whose Python the image runs: the base image's, or that of conda.
    provided
        The installed distributions that packages of *conda* provide, sorted by canonical name: what pip's
        part must live with, and what can be made from the installed files.
    replaced
        What conda installed and pip has replaced since.
    pinned
        Match specs that hold for conda packages whose versions have to be chosen.
    """

    python: Interpreter
    packages: tuple[PlannedPackage, ...]
    left_out: tuple[LeftOut, ...] = ()
    findings: tuple[Finding, ...] = ()
    apt: tuple[str, ...] = ()
    code: Code = field(default_factory=Code)
    profile: str = "none"
    critical_imports: tuple[str, ...] = ()
    strict: bool = False
    platform: str = "linux/amd64"
    conda: tuple[PlannedConda, ...] = ()
    channels: tuple[str, ...] = ()
    interpreter: Literal["base", "conda"] = "base"
    provided: tuple[Package, ...] = ()
    replaced: tuple[CondaRecord, ...] = ()
    pinned: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as documented JSON (``docs/json.md``)."""
        return {
            "profile": self.profile,
            "strict": self.strict,
            "platform": self.platform,
            "interpreter": self.interpreter,
            "channels": list(self.channels),
            "pinned": list(self.pinned),
            "conda": [package.to_dict() for package in self.conda],
            "packages": [package.to_dict() for package in self.packages],
            "left_out": [package.to_dict() for package in self.left_out],
            "apt": list(self.apt),
            "code": self.code.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
        }
