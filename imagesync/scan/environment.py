"""The result of a scan: an interpreter and its packages, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.notebook import NotebookValue, Table
from imagesync.core.progress import Severity as Severity  # noqa: PLC0414  of findings, too
from imagesync.core.text import counted

if TYPE_CHECKING:  # only for the checker: importing packaging.utils takes longer than a scan's reading
    from packaging.utils import NormalizedName

Manager = Literal["pip", "conda"]
SourceKind = Literal["index", "directory", "vcs", "archive"]


@dataclass(frozen=True)
class Finding:
    """A fact that the user should know; it stops nothing.

    Parameters
    ----------
    severity
        ``info``, ``warning`` or ``error``.
    code
        A stable slug, such as ``interrupted-uninstall``; documented in ``docs/findings.md``.
    message
        The message, without credentials.
    path
        The file or folder concerned.
    package
        The canonical name of the distribution concerned.
    hint
        The way to solve it.
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


def finding_table(findings: Iterable[Finding]) -> Table:
    """Return the table of findings, errors first; it is open if one is a warning or an error."""
    tones = {Severity.ERROR: "bad", Severity.WARNING: "warning", Severity.INFO: ""}
    ordered = sorted(findings, key=lambda finding: list(tones).index(finding.severity))
    return Table(
        counted(len(ordered), "finding"),
        ("severity", "code", "message", "hint"),
        [(each.severity.value, each.code, each.message, each.hint or "") for each in ordered],
        [tones[each.severity] for each in ordered],
        is_open=any(each.severity is not Severity.INFO for each in ordered),
    )


@dataclass(frozen=True)
class Source:
    """The source of an installed distribution (PEP 610).

    Parameters
    ----------
    kind
        ``index``, ``directory``, ``vcs`` or ``archive``.
    url
        Without credentials; for a directory its ``file://`` URL; ``None`` for an index.
    editable
        It is an editable installation.
    vcs
        The version control system, such as ``git``.
    commit
        The commit that was installed.
    requested_revision
        The branch, tag or commit that the user requested.
    subdirectory
        The folder of the project in the source tree.
    hash
        The digest of an archive, ``sha256:<hex>``.
    refused
        The reason not to fetch it: its file has a possible option or command. *url* and *commit* are
        ``None`` then.
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

    @property
    def description(self) -> str:
        """Return the source in a few words, with an abbreviated commit."""
        if self.kind == "index":
            return "index"
        if self.kind == "directory":
            return f"{'editable ' if self.editable else ''}directory {self.url or '(unknown)'}"
        if self.refused:
            return f"{self.vcs or 'vcs'}, refused"
        if self.kind == "vcs":
            commit = f" at {self.commit[:12]}" if self.commit else ""
            revision = f" ({self.requested_revision})" if self.requested_revision else ""
            return f"{self.vcs or 'vcs'} {self.url or '(unknown)'}{commit}{revision}"
        return f"archive {self.url or '(unknown)'}"

    def to_dict(self) -> dict[str, Any]:
        """Return the source as documented JSON: ``kind``, and the known fields."""
        known = {key: value for key, value in asdict(self).items() if value not in (None, False)}
        return {"kind": self.kind, **known}


@dataclass(frozen=True)
class CondaRecord:
    """A conda package as installed: a prefix record (``conda-meta/*.json``).

    Parameters
    ----------
    name
        The conda name, which may differ from those of its distributions.
    version
        The version.
    build
        The build string.
    build_number
        The build number.
    channel
        The channel's URL without credentials and without the subdirectory, such as
        ``https://conda.anaconda.org/conda-forge``; the name if no URL is known.
    subdir
        ``linux-64``, ``noarch`` ...
    filename
        The name of the archive, such as ``numpy-1.26.4-py311_0.conda``.
    url
        The URL of the archive, without credentials.
    sha256
        ``sha256:<hex>``; empty if the record has none.
    md5
        In hex; empty if the record has none.
    size
        The size of the archive, in bytes; ``None`` if unknown.
    noarch
        ``python``, ``generic``, or empty for a package of the platform.
    requested_spec
        The spec that the user requested; empty for a dependency.
    depends
        Match specs of its dependencies.
    constrains
        Match specs that limit packages without requiring them.
    distributions
        The canonical names of the Python distributions whose metadata it contains.
    license
        The license, as the record has it.
    has_post_link
        The package has a post-link script.
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
    """An installed distribution.

    Parameters
    ----------
    name
        Canonical name (PEP 503).
    version
        The version as written in its metadata.
    manager
        Its owner, ``pip`` or ``conda``.
    source
        The source that it was installed from.
    requested
        The user requested it by name (``REQUESTED``); ``None`` if unknown.
    purelib
        Its wheel was pure Python; ``None`` if unknown.
    location
        Its folder on ``sys.path``.
    metadata_path
        Its ``.dist-info`` or ``.egg-info``; empty if there is none.
    installer
        The content of ``INSTALLER``, such as ``pip`` or ``uv``; empty if unknown.
    tags
        The wheel's tags, such as ``cp311-cp311-manylinux_2_17_x86_64``.
    requires
        The ``Requires-Dist`` lines, as written.
    requires_python
        ``Requires-Python``, as written.
    has_record
        A RECORD (or ``installed-files.txt``) lists its files.
    conda
        The name of the conda package that provides it; empty for one of pip.
    has_identity
        Its metadata has name and version. Otherwise these are from its file name, and installers refuse it.
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
    has_identity: bool = True

    @property
    def is_egg(self) -> bool:
        """Return True if it is an egg, a folder or an archive on ``sys.path`` with one package."""
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
        The version with its patch level, such as ``3.11.7``.
    platform
        The value of ``sysconfig.get_platform()``: ``linux-x86_64``, ``macosx-14.0-arm64``, ``win-amd64``.
    abi
        The wheel ABI tag, such as ``cp311``.
    executable, prefix, base_prefix
        Paths on the scanned machine; ``executable`` is empty if only files were read.
    libc
        ``glibc 2.36``, ``musl 1.2``, or empty.
    markers
        The marker environment (PEP 508).
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


@dataclass(frozen=True, repr=False)
class Environment(NotebookValue):
    """A scanned environment.

    Parameters
    ----------
    python
        Its interpreter.
    packages
        The distributions, sorted by canonical name; one for each name.
    findings
        Findings about it, sorted.
    indexes
        The index URLs that the user's configuration names, without credentials.
    path
        The existing folders of its ``sys.path``, in their order, without those of the standard library.
    conda
        The conda packages, sorted by name, without those that pip has replaced.
    channels
        The channels of conda packages by priority; URLs without credentials.
    replaced
        The conda packages that pip has replaced; none of them is in *conda*.
    pinned
        Match specs that the user has pinned: ``conda-meta/pinned``, and the setting ``pinned_packages``.
    file_choice
        The digest of what decides, besides *indexes*, which file of an index is taken.
    channel_priority
        conda's setting of that name; empty if it wasn't read.
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
    file_choice: str = ""
    channel_priority: str = ""

    def _summary(self) -> str:
        python, of_pip = self.python, sum(not package.conda for package in self.packages)
        parts = [counted(len(self.conda), "conda package"), f"{of_pip} from pip"] if self.conda else []
        parts = parts or [counted(of_pip, "package")]
        if self.findings:
            parts.append(counted(len(self.findings), "finding"))
        return f"{python.prefix}: {python.implementation} {python.version}, {', '.join(parts)}"

    def _tables(self) -> Iterator[Table]:
        yield finding_table(self.findings)
        conda = [(r.name, r.version, r.build, r.requested_spec, r.channel) for r in self.conda]
        headers = ("package", "version", "build", "requested", "channel")
        yield Table(counted(len(conda), "conda package"), headers, conda)
        of_pip = [(p.name, p.version, p.source.description) for p in self.packages if not p.conda]
        title = f"{counted(len(of_pip), 'package')}{' from pip' if conda else ''}"
        yield Table(title, ("package", "version", "source"), of_pip)

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
