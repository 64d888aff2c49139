"""Wheels from sdists for another platform than this machine's: built in a container of the base image.

The container has no network and nothing of this machine is mounted in it: sources, build requirements and uv
go in by its standard input, the wheel comes out by its standard output. So a remote engine will do.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from packaging.requirements import Requirement

from imagesync.core.credentials import redact
from imagesync.core.progress import Progress
from imagesync.core.toml import parse_toml
from imagesync.errors import FetchError, HashMismatch, LockError, WheelError
from imagesync.indexes.pypi.access import Access
from imagesync.lock.lock import LockedPackage, Target
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.standalone.programs import program_text
from imagesync.store.download import Download
from imagesync.store.fetch import fetch
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build import SOURCE_DATE_EPOCH, failure
from imagesync.wheels.build_indexes import BuildIndexes

# A backend's further requirements may bring more of them; what asks again after that goes in circles.
_ROUNDS = 3
_LOG_END = 25
# What PEP 517 says of projects that say nothing.
_LEGACY = {"requires": ["setuptools>=40.8.0"], "build-backend": "setuptools.build_meta:__legacy__"}


class Container(Protocol):
    """Where a command runs on the target's platform, without a network."""

    @property
    def identity(self) -> str:
        """Return what the result of a build depends on beside its inputs, such as the base image's hash."""

    def run(self, script: str, *, stdin: bytes, log: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Run *script* by the image's interpreter, stderr to *log*; return the exit code and stdout."""


@dataclass(frozen=True)
class ContainerBuilder:
    """Builds wheels for the target in containers.

    Parameters
    ----------
    resolver, access
        What finds build requirements, and how they are fetched.
    indexes
        The indexes that they come from.
    uv
        Gives the path of an executable for the target.
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
        package: LockedPackage,
        source: Path,
        *,
        log: Path,
        output: Path,
        build_requirement: Callable[[LockedPackage, StoredFile], StoredFile],
    ) -> Path:
        """Return the wheel that the project in the folder *source* gives, written into the folder *output*.

        Parameters
        ----------
        log
            Where everything goes that the backend says, without credentials.
        build_requirement
            Makes the wheel of a build requirement that indexes have as an sdist only.

        Raises
        ------
        WheelError
            It can't be built, or its build requirements can't be had; the end of the log is in the message.
        HashMismatch
            A build requirement isn't what the index says.
        """
        system = _build_system(source, package)
        requires: list[str] = list(system["requires"])
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as stream:
            notes = _Notes(stream)
            for _ in range(_ROUNDS):
                notes(f"Installing {', '.join(sorted(requires))}\n".encode())
                try:
                    wheels = self._requirements(requires, build_requirement)
                except HashMismatch:
                    raise
                except (LockError, FetchError) as error:
                    notes(f"{error.message}\n".encode())
                    raise failure(package.name, package.version, notes.end, log) from error
                request = {
                    "requires": requires,
                    "backend": system["build-backend"],
                    "backend_path": system.get("backend-path", []),
                    "environ": {
                        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
                        "PYTHONDONTWRITEBYTECODE": "1",
                        "PYTHONHASHSEED": "0",
                        "PYTHONUNBUFFERED": "1",
                    },
                }
                archive = _archive(request, source, wheels, self.uv())
                script = program_text("image.build_worker")
                exit_code, answer = self.container.run(script, stdin=archive, log=notes)
                if exit_code != 0:
                    raise failure(package.name, package.version, notes.end, log)
                header, _, content = answer.partition(b"\n")
                told: dict[str, Any] = json.loads(header)
                if "wheel" in told:
                    output.mkdir(parents=True, exist_ok=True)
                    wheel = output / Path(told["wheel"]).name
                    wheel.write_bytes(content)
                    return wheel
                requires += told["requires"]
        raise WheelError(
            f"{package.name} {package.version}: its build asks for other requirements each time: "
            f"{', '.join(requires)}",
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
                # A resolver may take an index that doesn't answer for one that has nothing.
                if not self.indexes.find_silent(Requirement(requires[0]).name, known=silent):
                    raise


class _Notes:
    """Writes a log line by line, credentials taken out, and keeps its end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._rest = b""
        self.end: deque[str] = deque(maxlen=_LOG_END)

    def __call__(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            clean = redact(line.decode(errors="replace"))
            self._stream.write(clean + "\n")
            self.end.append(clean)


def _build_system(source: Path, package: LockedPackage) -> Mapping[str, Any]:
    """Return the table ``build-system`` of a project (PEP 518), or what stands for a missing one."""
    try:
        text = (source / "pyproject.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return _LEGACY
    try:
        table = parse_toml(text).get("build-system")
    except ValueError as error:
        raise WheelError(
            f"{package.name} {package.version}: the pyproject.toml of its sdist can't be read: {error}"
        ) from error
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
        archive.add(source, "source", filter=_anonymous)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
