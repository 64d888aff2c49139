"""Resolving with uv: for any target, from any machine, with packages that are bound to an index."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.bounded_program import run_bounded
from imagesync.core.credentials import redact, strip_credentials
from imagesync.core.files import disk_hint, parse_toml
from imagesync.core.limits import TooSlow
from imagesync.core.names import canonical_name
from imagesync.core.scratch import scratch_folder
from imagesync.errors import LockError, UnsolvableError
from imagesync.indexes.pypi.access import Access
from imagesync.indexes.pypi.index_configuration import PYPI, binding_of
from imagesync.indexes.pypi.index_problems import IndexProblem, unusable
from imagesync.indexes.pypi.uv_environment import write_uv_configuration
from imagesync.indexes.pypi.uv_files import (
    PROJECT,
    BoundRequirement,
    requirement_name,
    split_requirements,
    write_project,
)
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.lock.resolvers.resolver import (
    IndexResolver,
    ResolutionRequest,
    with_digest,
    write_metadata_wheels,
)
from imagesync.lock.wheel_tags import best_artifact, filename_of
from imagesync.settings.bases import base_hint

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

# The glibc 2 minor versions that uv supports (``uv pip compile --help``). A target between two of them gets
# the older one, whose wheels it can run.
_GLIBC = (17, 28, *range(31, 41))
_UNSOLVABLE = 1
_LACKS_WHEELS = re.compile(r"no wheels with a matching platform tag")
# Phrases of uv about an index that answers and can't be used.
_TELLING = re.compile(r"certificate|\b(401|403|407)\b", re.IGNORECASE)
# Takes a request, the number of the alternatives, and the bound packages that come in as dependencies.
Resolve = Callable[[ResolutionRequest, int, Collection[str]], tuple[LockedPackage, ...]]
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class UvResolver(IndexResolver):
    """A resolver with ``uv pip compile`` and the configuration of the tool that manages the environment.

    With pip's configuration, the best version of all indexes is taken (``--index-strategy
    unsafe-best-match``); where that names no index, uv's own configuration applies. A package that is bound
    to an index is resolved as the dependency of a project with that index as its source.
    """

    name: Literal["uv"] = "uv"

    def __init__(self, indexes: IndexConfiguration, *, environ: Mapping[str, str], access: Access) -> None:
        super().__init__(indexes, environ=environ, access=access)
        # Projects whose pages no index refuses.
        self._shown: set[str] = set()

    def check(self, target: Target) -> None:
        """Check that uv supports the platform of *target*; see :class:`Resolver`."""
        _python_platform(target)

    def resolve(self, request: ResolutionRequest) -> tuple[LockedPackage, ...]:
        """Return the packages that satisfy *request*; see :class:`Resolver`."""
        self._note_request(request)
        if not self.indexes.bound:
            return self._resolve(request)
        return _resolve_bound(request, self.indexes, self._resolve)

    def _resolve(
        self, request: ResolutionRequest, attempt: int = 0, besides: Collection[str] = ()
    ) -> tuple[LockedPackage, ...]:
        with scratch_folder("lock") as folder:
            output = folder / "pylock.toml"
            bound, others = split_requirements(
                request.requirements, self.indexes, attempt=attempt, besides=besides
            )
            self._run_in_orders(replace(request, requirements=others), folder, output, bound)
            document = parse_toml(output.read_text("utf-8"))
        vendored = {package.name for package in request.vendored}
        return tuple(
            self._locked(entry, request)
            for entry in document.get("packages", [])
            if canonical_name(entry["name"]) not in vendored
        )

    def _run_in_orders(
        self, request: ResolutionRequest, folder: Path, output: Path, bound: Sequence[BoundRequirement]
    ) -> None:
        """Run uv, and again with other indexes first if the files of one of several don't fit the target.

        pip takes the files of a version from all indexes, uv from the first that has the version.
        """
        try:
            self._run(request, folder, output, bound, self.indexes)
        except UnsolvableError as error:
            urls = self.indexes.public_urls
            if len(urls) < 2 or not _LACKS_WHEELS.search(error.message):
                raise
            if self.indexes.tool in ("uv", "pixi") or self.indexes.strategy != "unsafe-best-match":
                raise UnsolvableError(
                    f"{error.message}\nThere are several indexes ({', '.join(urls)}), and a version is taken "
                    "from the first that has it, even if only another one has its wheel for this platform. "
                    "Bind the package to that one, or name that one first."
                ) from error
            for indexes in _other_orders(self.indexes):
                with suppress(UnsolvableError):
                    self._run(request, folder, output, bound, indexes)
                    return
            raise

    def _run(
        self,
        request: ResolutionRequest,
        folder: Path,
        output: Path,
        bound: Sequence[BoundRequirement],
        indexes: IndexConfiguration,
    ) -> None:
        vendored_wheels = write_metadata_wheels(request.vendored, folder)
        requirements, constraints = folder / "requirements.in", folder / "constraints.txt"
        options = (f"--only-binary {name}" for name in request.wheels_only)
        requirements.write_text(
            "\n".join((*options, *request.requirements, *vendored_wheels)) + "\n", "utf-8"
        )
        constraints.write_text("\n".join(request.constraints) + "\n", "utf-8")
        if request.preferred:
            # uv prefers the versions of an existing output file.
            output.write_text(_preferences(request.preferred), "utf-8")
        environment = write_uv_configuration(indexes, self._environ, folder)
        project = folder / "pyproject.toml"
        if bound:
            environment |= write_project(bound, self.indexes, project)
        command = [
            *(_executable(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-progress"),
            *("--python", sys.executable, "--python-version", request.target.python_version),
            *("--python-platform", _python_platform(request.target)),
            *("--index-strategy", self.indexes.strategy, "--color", "never"),
            *("--format", "pylock.toml", "--output-file", str(output), "--constraints", str(constraints)),
            *(() if request.dependencies else ("--no-deps",)),
            *(("--no-index",) if self.indexes.no_index else ()),
            # `uv pip` reads this variable in no other way.
            *(("--no-build",) if self._environ.get("UV_NO_BUILD") == "1" else ()),
            "--",
            *((str(project),) if bound else ()),
            str(requirements),
        ]
        try:
            finished = run_bounded(command, env=environment, timeout=request.timeout)
        except subprocess.TimeoutExpired as error:
            raise LockError(f"uv found no answer within {error.timeout:.1f} s.") from error
        except TooSlow as error:
            raise self._too_slow(error) from error
        if finished.returncode != 0:
            asked = replace(request, requirements=(*(b.requirement for b in bound), *request.requirements))
            raise self._failure(finished.returncode, readable(finished.stderr), asked)

    def _failure(self, status: int, message: str, request: ResolutionRequest) -> LockError:
        # With several indexes, uv treats one that refuses as one without the package.
        if status == _UNSOLVABLE:
            refusing = [problem for problem in self._problems(request) if problem.refuses]
            return unusable(refusing) if refusing else UnsolvableError(message)
        if _TELLING.search(message) and (problems := self._problems(request)):
            return unusable(problems)
        return LockError(
            f"uv can't answer: {message}",
            hint=disk_hint(message)
            or f"Check the URLs in {self.indexes.source}, and the network with `imagesync doctor`.",
        )

    def _problems(self, request: ResolutionRequest) -> list[IndexProblem]:
        from packaging.requirements import Requirement

        projects = {Requirement(line).name for line in request.requirements[:1]} - self._shown
        found = [problem for project in projects for problem in self.index_problems(project)]
        self._shown |= projects if not found else set()
        return found

    def _locked(self, entry: Mapping[str, Any], request: ResolutionRequest) -> LockedPackage:
        name = canonical_name(entry["name"])
        artifacts = _artifacts(entry)
        if allowed := request.hashes.get(name):
            listed = (with_digest(each, self._access) for each in artifacts)
            artifacts = (each for each in listed if each.digest in allowed)
        artifact = best_artifact(artifacts, request.target)
        if artifact is None and allowed:
            raise LockError(
                f"The indexes have no artifact of {name} {entry.get('version', '')} that fits the image and "
                "has one of the locked digests.",
                hint="Lock again for Linux and this Python, with the digests of all files (`uv pip compile "
                "--universal --generate-hashes`); or ask whoever runs the index what became of the file.",
            )
        if artifact is None:
            raise UnsolvableError(
                f"{name} {entry.get('version', '')} has neither a wheel for the target nor an sdist"
            )
        found = artifact if request.versions_only else with_digest(artifact, self._access)
        return LockedPackage(name, entry["version"], found)


def readable(text: str) -> str:
    r"""Return an error message of uv without prefixes and credentials.

    >>> readable("error: No solution found\n  cause: Because x was not found\n")
    'Because x was not found'
    """
    lines = (
        line.strip() for line in redact(text).replace(f"{PROJECT} depends on", "you require").splitlines()
    )
    kept = [line.removeprefix("error:").removeprefix("cause:").strip() for line in lines if line]
    return "\n".join(line for line in kept if not line.startswith("No solution found"))


def _other_orders(indexes: IndexConfiguration) -> Iterator[IndexConfiguration]:
    """Yield the configuration with each other index first; uv asks the main one last."""
    pool = (*indexes.extra_index_urls, indexes.index_url or PYPI)
    for number in range(1, len(pool)):
        *extra, main = (*pool[number:], *pool[:number])
        yield replace(indexes, index_url=main, extra_index_urls=tuple(extra))


def _executable() -> str:
    from uv import find_uv_bin

    return find_uv_bin()


def _python_platform(target: Target) -> str:
    major, minor = target.glibc
    known = [glibc for glibc in _GLIBC if (major, minor) >= (2, glibc)]
    if not known:
        raise LockError(
            f"The base image's glibc {major}.{minor} is older than any that uv resolves for (2.17).",
            hint=base_hint(target.minor),
        )
    return f"{target.platform.machine}-manylinux_2_{known[-1]}"


def _preferences(preferred: Mapping[NormalizedName, str]) -> str:
    lines = ['lock-version = "1.0"', 'created-by = "imagesync"']
    for name, version in preferred.items():
        lines += ["", "[[packages]]", f'name = "{name}"', f'version = "{version}"']
    return "\n".join(lines) + "\n"


def _artifacts(entry: Mapping[str, Any]) -> Iterator[Artifact]:
    files: Iterable[Mapping[str, Any]] = [*entry.get("wheels", ()), *filter(None, [entry.get("sdist")])]
    for file in files:
        url = strip_credentials(file["url"]) if "url" in file else Path(file["path"]).resolve().as_uri()
        digest = file.get("hashes", {}).get("sha256")
        yield Artifact(
            filename=filename_of(url, file.get("name", "")),
            url=url,
            digest=f"sha256:{digest}" if digest else "",
            size=file.get("size"),
        )


def _resolve_bound(
    request: ResolutionRequest, indexes: IndexConfiguration, resolve: Resolve
) -> tuple[LockedPackage, ...]:
    """Return the packages that satisfy *request*, each bound one from its own index.

    Raises
    ------
    UnsolvableError
        Nothing satisfies it, or the one index of a package doesn't answer.
    """
    names = {name for line in request.requirements if (name := requirement_name(line))}
    bound = {name for name in names if binding_of(indexes.bound, name) is not None}
    _refuse_silent(bound, indexes)
    attempts = max((_alternatives(name, indexes) for name in bound), default=1)
    for attempt in range(attempts - 1):
        with suppress(UnsolvableError):
            return _with_dependencies(request, indexes, resolve, bound, attempt)
    return _with_dependencies(request, indexes, resolve, bound, attempts - 1)


def _alternatives(name: str, indexes: IndexConfiguration) -> int:
    binding = binding_of(indexes.bound, name)
    return len(binding.choices) if binding is not None else 1


def _with_dependencies(
    request: ResolutionRequest,
    indexes: IndexConfiguration,
    resolve: Resolve,
    asked: Collection[str],
    attempt: int,
) -> tuple[LockedPackage, ...]:
    """Resolve again for as long as bound packages come in that weren't asked of their index."""
    if not request.dependencies:
        return resolve(request, attempt, ())
    named = {canonical_name(binding.package) for binding in indexes.bound if "*" not in binding.package}
    besides: set[str] = set()
    while True:
        # Until it is known that they come in, other indexes may be asked; nothing of theirs is run.
        unknown = sorted(named - besides - set(asked))
        wheels_only = tuple(dict.fromkeys((*request.wheels_only, *unknown)))
        try:
            found = resolve(replace(request, wheels_only=wheels_only), attempt, besides)
        except UnsolvableError as error:
            words = (canonical_name(word.rstrip("._-")) for word in _WORD.findall(error.message))
            more = _bound(words, indexes) - besides - set(asked)
            if not more:
                raise
        else:
            more = _bound((package.name for package in found), indexes) - besides - set(asked)
            if not more:
                return found
        _refuse_silent(more, indexes)
        besides |= more


def _bound(names: Iterable[str], indexes: IndexConfiguration) -> set[str]:
    """Return those of *names* that are bound to an index."""
    return {name for name in names if binding_of(indexes.bound, name) is not None}


def _refuse_silent(names: Iterable[str], indexes: IndexConfiguration) -> None:
    for name in sorted(names):
        binding = binding_of(indexes.bound, name)
        if binding is not None and not binding.choices:
            raise UnsolvableError(f"{name} comes from an index of its own, and that doesn't answer")
