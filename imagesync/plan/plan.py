"""The values of a plan: how closely the image must match for each package, and why; the drift it allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.names import Level
from imagesync.core.notebook import NotebookValue, Table
from imagesync.core.platforms import DEFAULT_PLATFORM, Platform
from imagesync.core.text import counted, format_size
from imagesync.image_layout import ImageOptions
from imagesync.plan.loose_code import Code
from imagesync.scan.environment import (
    CondaRecord,
    Finding,
    Interpreter,
    Manager,
    Package,
    Severity,
    Source,
    finding_table,
)
from imagesync.scan.modifications.modification import Modification

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


class _Planned:
    level: Level
    strict: bool

    @property
    def takes_nearest(self) -> bool:
        """Return True if a lock takes the nearest version where the target lacks the local one.

        A strict plan is refused in the end if anything differs. Until then its lock takes the nearest
        versions, so that the message names every difference, and not only the first.
        """
        return self.strict or self.level is Level.NEAREST


@dataclass(frozen=True)
class PlannedPackage(_Planned):
    """A package that the image must hold.

    Parameters
    ----------
    name
        The canonical name.
    version
        The local version; empty for an added package.
    level
        How closely the image must match.
    specifier
        The allowed versions (PEP 440), such as ``~=1.4.3``; may be empty.
    reason
        The reason for the level, for the user.
    source
        Where the package was installed from.
    requested
        Whether the user requested it; ``None`` if nothing records it.
    extras
        Of an added package only: ``torch[cuda]`` has ``("cuda",)``.
    installed
        The scanned distribution; ``None`` for an added package and for Python itself.
    modification
        The difference of its installed files to RECORD; ``None`` if there is none.
    as_installed
        Whether the image gets its installed files instead of an artifact from an index or its source.
    strict
        Whether it is exact in a strict plan.
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
    modification: Modification | None = field(default=None, repr=False)
    as_installed: bool = False
    strict: bool = False

    @property
    def vendored(self) -> bool:
        """Return True if the wheel is made on this machine and doesn't come from an index."""
        return self.source.kind != "index" or self.as_installed

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
            "as_installed": self.as_installed,
            "modification": self.modification.to_dict() if self.modification is not None else None,
        }


@dataclass(frozen=True)
class PlannedConda(_Planned):
    """A conda package that the image must hold.

    Parameters
    ----------
    name
        The conda name, which may differ from the names of the distributions that it provides.
    version, build
        The local ones; empty for an added package.
    level
        How closely the image must match.
    specifier
        The allowed versions as a conda match spec writes them, such as ``~=1.26.4``; may be empty.
    reason
        The reason for the level, for the user.
    requested
        Whether the user requested it; ``None`` if nothing records it.
    record
        The installed record; ``None`` for an added package.
    modification, strict
        As in :class:`PlannedPackage`.
    """

    name: str
    version: str
    build: str
    level: Level
    specifier: str
    reason: str
    requested: bool | None = None
    record: CondaRecord | None = None
    modification: Modification | None = field(default=None, repr=False)
    strict: bool = False

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
            "modification": self.modification.to_dict() if self.modification is not None else None,
        }


@dataclass(frozen=True)
class LeftOut:
    """An installed package that the image doesn't get, with the reason.

    Parameters
    ----------
    name
        The canonical name; of a conda package the conda name.
    version
        The installed version.
    level
        The level that leaves it out.
    reason
        The reason, for the user.
    requested
        Whether the user requested it; ``None`` if nothing records it.
    manager
        The manager that installed it.
    """

    name: str
    version: str
    level: Level
    reason: str
    requested: bool | None = None
    manager: Manager = "pip"

    @property
    def missed(self) -> bool:
        """Return True if the user requested it and may miss it in the image."""
        return bool(self.requested) and self.level is not Level.IGNORE

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return {**asdict(self), "level": self.level.value}


@dataclass(frozen=True, repr=False)
class Plan(NotebookValue):
    """The packages that the image must hold, known before anything is fetched.

    Parameters
    ----------
    python
        The local interpreter; that of the image has the same feature version.
    packages
        Sorted by canonical name; Python itself is the entry ``python``.
    left_out
        Installed packages that the image doesn't get.
    findings
        Findings about the plan.
    apt
        System packages, sorted.
    code
        Modules that belong to no package, and their local files.
    profile
        The name of the profile, such as ``dask``.
    critical_imports
        The import names of the critical packages, for the check of the built image.
    strict
        Whether the image must have exactly the local versions.
    platform
        That of the image.
    conda
        Conda packages, sorted by conda name. The distributions that they provide aren't in *packages*.
    channels
        URLs of the conda channels without credentials, the preferred one first.
    interpreter
        The origin of the image's Python: the base image, or conda.
    interpreter_reason
        Why it is the base image's although conda's is preferred; empty otherwise.
    provided
        The installed distributions that packages of *conda* provide, sorted by canonical name.
    replaced
        Records of conda packages that pip has replaced.
    pinned
        Match specs that limit the choice of versions of conda packages.
    channel_priority
        conda's setting of that name.
    provided_modifications
        By name, the modifications of packages in *provided*.
    options
        What the settings say of the image besides its packages.
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
    platform: Platform = DEFAULT_PLATFORM
    conda: tuple[PlannedConda, ...] = ()
    channels: tuple[str, ...] = ()
    interpreter: Literal["base", "conda"] = "base"
    interpreter_reason: str = ""
    provided: tuple[Package, ...] = ()
    replaced: tuple[CondaRecord, ...] = ()
    pinned: tuple[str, ...] = ()
    channel_priority: str = ""
    provided_modifications: Mapping[str, Modification] = field(default_factory=dict, repr=False)
    options: ImageOptions = field(default_factory=ImageOptions)

    @property
    def modified(self) -> dict[str, str]:
        """Return the digest of what differs in each changed package, by manager and name: ``pip/numpy``."""
        pip = {f"pip/{p.name}": p.modification.digest for p in self.packages if p.modification is not None}
        conda = {f"conda/{p.name}": p.modification.digest for p in self.conda if p.modification is not None}
        return pip | conda

    def _summary(self) -> str:
        parts = [f"profile {self.profile}{', strict' if self.strict else ''}"]
        parts += [counted(len(self.conda), "conda package")] if self.conda else []
        of_pip = len(self._of_pip())
        parts.append(f"{of_pip} from pip" if self.conda else counted(of_pip, "package"))
        parts += [f"{len(self.left_out)} left out", counted(len(self.findings), "finding")]
        return f"for {self.platform}, Python {self.python.minor}: {', '.join(parts)}"

    def _of_pip(self) -> list[PlannedPackage]:
        # A conda environment's Python is one of its packages.
        return [p for p in self.packages if p.name != "python" or self.interpreter == "base"]

    def _tables(self) -> Iterator[Table]:
        yield finding_table(self.findings)
        headers: tuple[str, ...] = ("package", "version", "level", "reason")
        rows: list[tuple[str, ...]]
        for missed, title in ((True, "won't be in the image though you asked for it"), (False, "left out")):
            rows = [(p.name, p.version, p.level.value, p.reason) for p in self.left_out if p.missed is missed]
            tones = ["warning" if missed else ""] * len(rows)
            yield Table(f"{counted(len(rows), 'package')} {title}", headers, rows, tones, is_open=missed)
        headers = ("package", "here", "in the image", "source", "reason")
        for level in Level:
            rows = [
                (p.name, f"{p.version} {p.build}".strip(), p.specifier or "any", "conda", p.reason)
                for p in self.conda
                if p.level is level
            ]
            rows += [
                (p.name, p.version, p.specifier or "any", p.source.description, p.reason)
                for p in self._of_pip()
                if p.level is level
            ]
            yield Table(f"{len(rows)} {level.value}", headers, rows)
        paths = [
            (p.path, " ".join(p.modules), str(len(p.files)), format_size(p.size)) for p in self.code.paths
        ]
        yield Table("loose code", ("path", "modules", "files", "size"), paths)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as documented JSON (``docs/json.md``)."""
        return {
            "profile": self.profile,
            "strict": self.strict,
            "platform": self.platform.name,
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


def possible_drift(plan: Plan, *, every: bool) -> tuple[str, ...]:
    """Return the names of packages that could differ in the image, sorted.

    Parameters
    ----------
    plan
        The plan to look at.
    every
        Count every package that its level or specifier lets differ, every package that is left out, and
        warnings. Otherwise only critical, exact and nearest packages whose specifier lets them differ,
        requested packages that are left out, and errors count. Ignored packages never count.
    """
    drifting: set[str] = {
        package.name
        for package in plan.packages
        if package.name != "python" and package.installed is not None and _may_differ(package, every=every)
    }
    drifting.update(
        package.name
        for package in plan.conda
        if package.record is not None and _may_differ(package, every=every)
    )
    # Ignored packages are left out on purpose: pip is in every virtual environment.
    left_out = (package for package in plan.left_out if package.level is not Level.IGNORE)
    drifting.update(package.name for package in left_out if every or package.requested)
    serious = (Severity.ERROR, Severity.WARNING) if every else (Severity.ERROR,)
    findings = (finding for finding in plan.findings if finding.severity in serious)
    drifting.update(finding.package or finding.code for finding in findings)
    return tuple(sorted(drifting))


def _may_differ(package: PlannedPackage | PlannedConda, *, every: bool) -> bool:
    if every and package.level is Level.NEAREST:
        return True
    return (every or package.level.is_pinned) and not _is_exact(package.specifier)


def _is_exact(specifier: str) -> bool:
    # A wildcard such as ==3.11.* is a range.
    return specifier.startswith("==") and "*" not in specifier and "," not in specifier
