"""Building wheels for another platform, in a container of the base image.

The container has no network and no mounts: sources, build requirements and uv are sent to its standard
input, and the wheel comes from its standard output. So a remote engine works as well.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from imagesync.core.archive_members import tar_member, without_owner
from imagesync.core.build_log import open_log
from imagesync.core.credentials import redact
from imagesync.core.files import parse_toml
from imagesync.core.progress import Progress
from imagesync.core.strict_json import load_json
from imagesync.errors import FetchError, HashMismatch, LockError, WheelError
from imagesync.indexes.pypi.access import Access
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import LockedPackage
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.standalone.programs import program_text
from imagesync.store.download import Download
from imagesync.store.parallel_fetch import fetch
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build_indexes import BuildIndexes
from imagesync.wheels.build_wheel import backend_variables, failure

# The backend's further requirements may add more of them; more rounds mean a circle.
_ROUNDS = 3
# The default of PEP 517.
_LEGACY = {"requires": ["setuptools>=40.8.0"], "build-backend": "setuptools.build_meta:__legacy__"}


class Container(Protocol):
    """A container of the target's platform, without a network."""

    @property
    def identity(self) -> str:
        """Return an identifier of the build environment, such as the hash of the base image."""

    def prepare(self) -> None:
        """Make sure that scripts can be run, or raise the :class:`~imagesync.errors.EngineError`."""

    def run(self, script: str, *, stdin: bytes, log: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Run *script* with the image's interpreter, stderr to *log*; return the exit code and stdout.

        Raises
        ------
        WheelError
            It prints more than a wheel may have.
        """


@dataclass(frozen=True)
class ContainerBuilder:
    """Builds wheels for the target in containers.

    Parameters
    ----------
    container
        Runs the builds.
    target
        The platform and interpreter of the image.
    store
        Keeps build requirements.
    resolver, access
        For resolving and fetching build requirements.
    indexes
        The indexes of build requirements.
    uv
        Returns the path of an executable for the target.
    progress
        Shows downloads.
    """

    container: Container
    target: Target
    store: Store
    resolver: Resolver
    access: Access
    indexes: BuildIndexes
    uv: Callable[[], Path]
    progress: Progress

    def build(
        self,
        name: str,
        version: str,
        source: Path,
        *,
        log: Path,
        output: Path,
        build_requirement: Callable[[LockedPackage, StoredFile], StoredFile],
        commit: str = "",
    ) -> Path:
        """Return the wheel of the project in the folder *source*, in the folder *output*.

        Parameters
        ----------
        name, version, source, log, commit
            As in :class:`~imagesync.wheels.build_environments.BuildRequest`.
        output
            The folder for the wheel.
        build_requirement
            Builds the wheel of a build requirement that indexes only have as an sdist.

        Raises
        ------
        EngineError
            There is no engine, or no container can be started.
        WheelError
            The project can't be built, or a build requirement is missing; the message has the end of the log.
        HashMismatch
            A build requirement doesn't have the digest of the index.
        """
        label = f"{name} {version}"
        system = _build_system(source, label)
        self.container.prepare()  # before anything is fetched for it
        requires: list[str] = list(system["requires"])
        with open_log(log) as output_log:
            for _ in range(_ROUNDS):
                output_log.line(f"Installing {', '.join(sorted(requires))}")
                try:
                    wheels = self._requirements(requires, build_requirement)
                except HashMismatch:
                    raise
                except (LockError, FetchError) as error:
                    output_log.line(error.message)
                    raise failure(name, version, output_log.end, log) from error
                request = {
                    "requires": requires,
                    "backend": system["build-backend"],
                    "backend_path": system.get("backend-path", []),
                    "environ": backend_variables(name, version, commit),
                }
                archive = _archive(request, source, wheels, self.uv())
                script = program_text("image.build_worker")
                try:
                    exit_code, answer = self.container.run(script, stdin=archive, log=output_log.feed)
                except WheelError as error:
                    end, reason = output_log.end, error.message
                    raise failure(name, version, end, log, reason=reason) from error
                output_log.end_line()
                if exit_code != 0:
                    raise failure(name, version, output_log.end, log)
                filename, content, more = _answered(answer, label)
                if filename:
                    output.mkdir(parents=True, exist_ok=True)
                    wheel = output / filename
                    wheel.write_bytes(content)
                    return wheel
                requires += more
        raise WheelError(
            f"{label}: its build asks for other requirements each time: {', '.join(requires)}",
            hint="Choose a version that has wheels for Linux.",
        )

    def _requirements(
        self, requires: Sequence[str], build_requirement: Callable[[LockedPackage, StoredFile], StoredFile]
    ) -> list[StoredFile]:
        if not requires:
            return []
        locked = self._resolved(requires)
        downloads = [
            Download(p.artifact.url, p.artifact.digest, p.artifact.filename, p.artifact.size) for p in locked
        ]
        fetched = fetch(downloads, store=self.store, access=self.access, progress=self.progress)
        return [
            file if package.artifact.is_wheel else build_requirement(package, file)
            for package, file in zip(locked, fetched, strict=True)
        ]

    def _resolved(self, requires: Sequence[str]) -> tuple[LockedPackage, ...]:
        """Return the wheels and sdists that satisfy *requires*, from the indexes that answer."""
        request = ResolutionRequest(
            self.target,
            requirements=tuple(requires),
            constraints=self.indexes.constraints,
            dependencies=True,
        )
        while True:
            silent = self.indexes.silent
            resolver = self.resolver.without(silent) if silent else self.resolver
            try:
                return resolver.resolve(request)
            except LockError:
                # A resolver may treat an index that doesn't answer as one without the package.
                if not self.indexes.find_silent(Requirement(requires[0]).name, known=silent):
                    raise


def _answered(answer: bytes, label: str) -> tuple[str, bytes, list[str]]:
    """Return the file name and content of the wheel, or the requirements that the backend adds."""
    header, _, content = answer.partition(b"\n")
    try:
        result = load_json(header)
        if "wheel" not in result:
            return "", b"", [str(requirement) for requirement in result["requires"]]
        parse_wheel_filename(name := Path(result["wheel"]).name)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        # The backend runs as the same user as what writes the answer.
        raise WheelError(
            f"{label}: what its build in a container answers can't be used: {redact(str(error))[:200]}"
        ) from error
    return name, content, []


def _build_system(source: Path, label: str) -> Mapping[str, Any]:
    """Return the table ``build-system`` of a project (PEP 518), or the default."""
    try:
        text = (source / "pyproject.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return _LEGACY
    try:
        table = parse_toml(text).get("build-system")
    except ValueError as error:
        raise WheelError(f"{label}: its pyproject.toml can't be read: {error}") from error
    if not isinstance(table, dict):
        return _LEGACY
    return {"build-backend": _LEGACY["build-backend"], **table, "requires": table.get("requires", [])}


def _archive(request: Mapping[str, Any], source: Path, wheels: Sequence[StoredFile], uv: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "request.json", json.dumps(request).encode())
        _add(archive, "uv", uv.read_bytes(), mode=0o755)
        for wheel in wheels:
            _add(archive, f"wheels/{wheel.filename}", wheel.path.read_bytes())
        archive.add(source, "source", filter=without_owner)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    archive.addfile(tar_member(name, size=len(content), mode=mode), io.BytesIO(content))
