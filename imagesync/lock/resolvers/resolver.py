"""The protocol of resolvers, their requests, and what the resolvers that run a program share."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from imagesync.errors import LockError
from imagesync.indexes.pypi.access import Access
from imagesync.indexes.pypi.index_configuration import binding_of
from imagesync.indexes.pypi.index_problems import IndexProblem, find_problems
from imagesync.indexes.pypi.uv_environment import without_indexes, without_variables
from imagesync.indexes.pypi.uv_files import requirement_name
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.plan.plan import PlannedPackage
from imagesync.plan.requirements import parse_requirement
from imagesync.store.source import local_path, open_source

if TYPE_CHECKING:
    from packaging.utils import NormalizedName
    from typing_extensions import Self

    from imagesync.core.limits import TooSlow
    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

_EXTRA = re.compile(r"""\bextra\s*==\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True)
class ResolutionRequest:
    """A request to a resolver.

    Parameters
    ----------
    target
        The platform and interpreter of the image.
    requirements
        PEP 508 requirements.
    constraints
        Requirements that limit packages without requiring them.
    preferred
        Versions to prefer if requirements and constraints allow them.
    vendored
        Packages that are present, with the requirements of their metadata; no index is asked for them.
    dependencies
        Include dependencies; otherwise each requirement is resolved alone.
    wheels_only
        Packages whose sdists must not be used: code from an index under the name of a local package must
        not run.
    versions_only
        Only the versions are needed: artifacts and digests may be missing.
    hashes
        The digests that the artifact of a package may have; packages without an entry may have any.
    timeout
        In seconds; ``None`` for no limit.
    """

    target: Target
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    preferred: Mapping[NormalizedName, str] = field(default_factory=dict)
    vendored: tuple[PlannedPackage, ...] = ()
    dependencies: bool = False
    wheels_only: tuple[NormalizedName, ...] = ()
    versions_only: bool = False
    hashes: Mapping[NormalizedName, frozenset[str]] = field(default_factory=dict)
    timeout: float | None = None


class Resolver(Protocol):
    """A resolver that answers a :class:`ResolutionRequest` from the user's indexes."""

    @property
    def name(self) -> Literal["uv", "pip-tools"]:
        """Return the name for the lock."""

    @property
    def indexes(self) -> IndexConfiguration:
        """Return the indexes with their credentials."""

    def index_problems(self, project: str) -> tuple[IndexProblem, ...]:
        """Return the configured indexes that can't be used, each with the reason.

        Parameters
        ----------
        project
            The project to ask for. An index that lacks it can be used.
        """

    def refusals(self) -> tuple[IndexProblem, ...]:
        """Return the indexes that refused to answer while others did, so that nothing was taken from them."""

    def without(self, urls: Collection[str]) -> Resolver:
        """Return a resolver without the indexes *urls*, which have no credentials."""

    def check(self, target: Target) -> None:
        """Check that this resolver supports *target*.

        Raises
        ------
        LockError
            It doesn't; the hint names alternatives.
        """

    def resolve(self, request: ResolutionRequest) -> tuple[LockedPackage, ...]:
        """Return the packages that satisfy *request*, each with the artifact that fits the target best.

        Raises
        ------
        UnsolvableError
            There is no solution; the message is the resolver's explanation.
        LockError
            There is no answer: an index can't be reached, or the time limit is exceeded.
        """


class IndexResolver:
    """A resolver that runs a program with the user's configuration of indexes: what uv and pip-tools share.

    Parameters
    ----------
    indexes
        The configuration of pip, or of the tool whose project the environment belongs to.
    environ
        Environment variables of the program.
    access
        Credentials for files without a digest in the index.
    """

    def __init__(self, indexes: IndexConfiguration, *, environ: Mapping[str, str], access: Access) -> None:
        self._indexes = indexes
        self._environ = environ
        self._access = access
        self._requested = ""
        self._refusals: tuple[IndexProblem, ...] | None = None

    @property
    def indexes(self) -> IndexConfiguration:
        """Return the indexes with their credentials."""
        return self._indexes

    def index_problems(self, project: str) -> tuple[IndexProblem, ...]:
        """Return the indexes that can't be used; see :class:`Resolver`."""
        return find_problems(self.indexes, project, self._access)

    def refusals(self) -> tuple[IndexProblem, ...]:
        """Return the indexes that refused to answer; see :class:`Resolver`."""
        # Without a configured main index PyPI is asked, too.
        others = self.indexes.index_url is None or len(self.indexes.public_urls) > 1
        if not self._requested or not others:
            return ()
        if self._refusals is None:
            problems = self.index_problems(self._requested)
            self._refusals = tuple(problem for problem in problems if problem.refuses)
        return self._refusals

    def _note_request(self, request: ResolutionRequest) -> None:
        """Remember a project that the indexes were asked for: uv and pip pass over one that refuses."""
        if not self._requested:
            names = filter(None, map(requirement_name, request.requirements))
            # The index of a bound package isn't passed over.
            unbound = (name for name in names if binding_of(self.indexes.bound, name) is None)
            self._requested = next(unbound, "")

    def _too_slow(self, error: TooSlow) -> LockError:
        return LockError(
            f"The resolver was ended: {error}.",
            hint=f"Check the URLs in {self.indexes.source}, and the network with `imagesync doctor`.",
        )

    def without(self, urls: Collection[str]) -> Self:
        """Return a resolver of the other indexes; see :class:`Resolver`."""
        others = without_indexes(self.indexes, urls)
        return type(self)(others, environ=without_variables(self._environ), access=self._access)


def write_metadata_wheels(vendored: Sequence[PlannedPackage], folder: Path) -> tuple[str, ...]:
    """Write a wheel with metadata alone for each vendored package, and return requirements for them by URL.

    By URL, because then no package of the same name on an index can replace it.
    """
    requirements = []
    for package in vendored:
        stem = f"{package.name.replace('-', '_')}-{package.version}"
        path = folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{stem}.dist-info/METADATA", _metadata(package))
            archive.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        requirements.append(f"{package.name} @ {path.as_uri()}")
    return tuple(requirements)


def _without_url(line: str) -> str | None:
    """Return a requirement by name, or ``None`` if it isn't valid under PEP 508.

    A resolver would fetch what a URL names, and build it. What is installed from there is a vendored package,
    and has such a wheel, too. An invalid line is left out, because resolvers parse more than the
    specification allows: what isn't understood here might be a URL to them.

    >>> _without_url("other[fast] @ https://example.com/other.tar.gz ; python_version > '3.8'")
    'other[fast]; python_version > "3.8"'
    >>> _without_url("other>=1")
    'other>=1'
    >>> _without_url("other @ https://example.com/other.tar.gz # comment") is None
    True
    """
    requirement = parse_requirement(" ".join(line.split()))
    if requirement is None or "$" in line:  # uv expands variables
        return None
    requirement.url = None
    text = str(requirement)
    # Strings in markers have escapes: a line break or a variable may come out of them.
    readable = text.isprintable() and "$" not in text and str(parse_requirement(text)) == text
    return text if readable else None


def _metadata(package: PlannedPackage) -> str:
    recorded = package.installed.requires if package.installed is not None else ()
    requires = [requirement for line in recorded if (requirement := _without_url(line)) is not None]
    extras = sorted({extra for line in requires for extra in _EXTRA.findall(line)})
    lines = ["Metadata-Version: 2.1", f"Name: {package.name}", f"Version: {package.version}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {line}" for line in requires]
    return "\n".join(lines) + "\n\n"


def with_digest(artifact: Artifact, access: Access) -> Artifact:
    """Return *artifact* with its digest, computed from the whole file if the index has none.

    Older indexes have no digests, or only MD5. A local file gets its size as well.

    Raises
    ------
    LockError
        The file can't be read.
    """
    import hashlib

    if artifact.digest:
        return _with_size(artifact)
    found, size = hashlib.sha256(), 0
    try:
        with open_source(artifact.url, access=access) as chunks:
            for chunk in chunks:
                found.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise LockError(
            f"The index gives no sha256 for {artifact.filename}, and the file can't be read: {error}",
            hint="Ask whoever runs the index for sha256 digests, or try again.",
        ) from error
    return replace(artifact, digest=f"sha256:{found.hexdigest()}", size=size)


def _with_size(artifact: Artifact) -> Artifact:
    path = local_path(artifact.url)
    if artifact.size is not None or path is None or not path.is_file():
        return artifact
    return replace(artifact, size=path.stat().st_size)
