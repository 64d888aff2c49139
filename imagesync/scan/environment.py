"""The result of a scan: an interpreter and its packages, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # only for the checker: importing packaging.utils takes longer than a scan's reading
    from packaging.utils import NormalizedName

Manager = Literal["pip", "conda"]
SourceKind = Literal["index", "directory", "vcs", "archive"]


class Severity(str, Enum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know, which by itself stops nothing.

    Parameters
    ----------
    code
        A stable slug, such as ``interrupted-uninstall``; documented in ``docs/findings.md``.
    message
        What was found, free of credentials.
    path
        The file or folder that it is about.
    package
        The canonical name of the distribution that it is about.
    hint
        What to do about it.
    """

    severity: Severity
    code: str
    message: str
    path: str | None = None
    package: str | None = None
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as documented JSON."""
        return {**asdict(self), "severity": self.severity.value}


@dataclass(frozen=True)
class Source:
    """Where an installed distribution came from (PEP 610).

    Parameters
    ----------
    kind
        ``index``, ``directory``, ``vcs`` or ``archive``.
    url
        Without credentials; for a directory its ``file://`` URL; ``None`` for an index.
    hash
        Of an archive, ``sha256:<hex>``.
    refused
        Why nothing is fetched from there: its file names what could be an option or a command. *url* and
        *commit* are ``None`` then.
    """

    kind: SourceKind = "index"
    url: str | None = None
    editable: bool = False
    vcs: str | None = None
    commit: str | None = None
    requested_revision: str | None = None
    subdirectory: str | None = None
    hash: str | None = None
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the source as documented JSON: ``kind``, and what is known beside it."""
        known = {key: value for key, value in asdict(self).items() if value not in (None, False)}
        return {"kind": self.kind, **known}


@dataclass(frozen=True)
class CondaRecord:
    """One package as conda installed it: a prefix record (``conda-meta/*.json``).

    Parameters
    ----------
    name
        Its conda name, which may be another one than that of the distributions it provides.
    channel
        The channel's URL without credentials and without the subdirectory, such as
        ``https://conda.anaconda.org/conda-forge``; the name where no URL is known.
    subdir
        ``linux-64``, ``noarch`` ...
    filename
        Of the archive, such as ``numpy-1.26.4-py311_0.conda``.
    url
        Of the archive, without credentials.
    sha256
        ``sha256:<hex>``; empty where the record has none.
    md5
        In hex; empty where the record has none.
    size
        Of the archive, in bytes; ``None`` where the record doesn't say.
    noarch
        ``python``, ``generic``, or empty for a package of the platform.
    requested_spec
        What the user asked for; empty for a package that came in with another one.
    distributions
        The canonical names of the Python distributions whose metadata it holds.
    has_post_link
        Whether a script of the package runs after it was linked.
    """

    name: str
    version: str
    build: str
    build_number: int
    channel: str
    subdir: str
    filename: str
    url: str
    sha256: str = ""
    md5: str = ""
    size: int | None = None
    noarch: Literal["", "python", "generic"] = ""
    requested_spec: str = ""
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    distributions: tuple[NormalizedName, ...] = ()
    license: str = ""
    has_post_link: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the record as documented JSON."""
        return {
            **asdict(self),
            "depends": list(self.depends),
            "constrains": list(self.constrains),
            "distributions": list(self.distributions),
        }


@dataclass(frozen=True)
class Package:
    """One installed distribution.

    Parameters
    ----------
    name
        Canonical name (PEP 503).
    version
        As its metadata writes it.
    source
        Where it came from.
    requested
        Whether the user asked for it by name (``REQUESTED``); ``None`` where nothing says.
    purelib
        Whether its wheel was pure Python; ``None`` where nothing says.
    location
        The folder on ``sys.path`` that holds it.
    metadata_path
        Its ``.dist-info`` or ``.egg-info``; empty where there is none.
    installer
        What ``INSTALLER`` says, such as ``pip`` or ``uv``; empty where nothing says.
    tags
        The wheel's tags, such as ``cp311-cp311-manylinux_2_17_x86_64``.
    requires
        ``Requires-Dist`` lines, as they are written.
    requires_python
        ``Requires-Python``, as it is written.
    has_record
        Whether a RECORD (or ``installed-files.txt``) lists its files.
    conda
        The name of the conda package that provides it; empty for one of pip.
    """

    name: NormalizedName
    version: str
    manager: Manager = "pip"
    source: Source = field(default_factory=Source)
    requested: bool | None = None
    purelib: bool | None = None
    location: str = ""
    metadata_path: str = ""
    installer: str = ""
    tags: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    requires_python: str | None = None
    has_record: bool = False
    conda: str = ""

    @property
    def is_egg(self) -> bool:
        """Return True if it is an egg, a folder or an archive on ``sys.path`` that holds one package."""
        return self.location.endswith(".egg") and bool(self.metadata_path)

    def to_dict(self) -> dict[str, Any]:
        """Return the package as documented JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "manager": self.manager,
            "source": self.source.to_dict(),
            "requested": self.requested,
            "purelib": self.purelib,
            "location": self.location,
            "metadata_path": self.metadata_path,
            "installer": self.installer,
            "tags": list(self.tags),
            "requires": list(self.requires),
            "requires_python": self.requires_python,
            "has_record": self.has_record,
            "conda": self.conda,
        }


@dataclass(frozen=True)
class Interpreter:
    """The interpreter of an environment.

    Parameters
    ----------
    implementation
        ``cpython``, ``pypy`` ...
    version
        With its patch level, such as ``3.11.7``.
    platform
        As ``sysconfig.get_platform()`` says: ``linux-x86_64``, ``macosx-14.0-arm64``, ``win-amd64``.
    abi
        The wheel ABI tag, such as ``cp311``.
    executable, prefix, base_prefix
        Paths on the scanned machine; ``executable`` is empty where only files were read.
    libc
        ``glibc 2.36``, ``musl 1.2``, or empty.
    markers
        The marker environment of PEP 508 and its values.
    """

    implementation: str
    version: str
    platform: str
    abi: str
    executable: str
    prefix: str
    base_prefix: str
    libc: str = ""
    markers: Mapping[str, str] = field(default_factory=dict)

    @property
    def minor(self) -> str:
        """Return the feature version, such as ``3.11``."""
        return ".".join(self.version.split(".")[:2])

    def to_dict(self) -> dict[str, Any]:
        """Return the interpreter as documented JSON."""
        return {**asdict(self), "markers": dict(self.markers)}


@dataclass(frozen=True)
class Environment:
    """An environment as it is.

    Parameters
    ----------
    packages
        Sorted by canonical name; one entry a name.
    indexes
        The index URLs that the user's configuration names, without credentials.
    path
        The folders of its ``sys.path`` that exist, in their order, without those of the standard library.
    conda
        What conda installed, sorted by conda name, without what pip has replaced.
    channels
        Where conda packages come from, first the one that wins; URLs without credentials.
    replaced
        What conda installed and pip has replaced since; none of it is in *conda*.
    pinned
        Match specs that the user has pinned: ``conda-meta/pinned``, and the setting ``pinned_packages``.
    """

    python: Interpreter
    packages: tuple[Package, ...]
    findings: tuple[Finding, ...] = ()
    indexes: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    conda: tuple[CondaRecord, ...] = ()
    channels: tuple[str, ...] = ()
    replaced: tuple[CondaRecord, ...] = ()
    pinned: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the environment as documented JSON (``docs/json.md``)."""
        return {
            "python": self.python.to_dict(),
            "indexes": list(self.indexes),
            "path": list(self.path),
            "channels": list(self.channels),
            "conda": [record.to_dict() for record in self.conda],
            "replaced": [record.to_dict() for record in self.replaced],
            "pinned": list(self.pinned),
            "packages": [package.to_dict() for package in self.packages],
            "findings": [finding.to_dict() for finding in self.findings],
        }
