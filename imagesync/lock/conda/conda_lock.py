"""Solving for conda packages with conda-lock, and so with conda, mamba or micromamba."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact, strip_credentials
from imagesync.core.installation import module_command
from imagesync.core.scratch import scratch_folder
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.conda_program import CondaExecutable, find_conda
from imagesync.lock.conda.solver import CondaRequest
from imagesync.lock.locked_packages import LockedConda

if TYPE_CHECKING:
    from conda_lock.lockfile.v2prelim.models import LockedDependency

    from imagesync.core.platforms import Platform
    from imagesync.core.progress import Progress
    from imagesync.indexes.conda.conda_configuration import ChannelPriority
    from imagesync.lock.conda.channels import Channels
    from imagesync.scan.environment import CondaRecord

# Phrases of conda, mamba and micromamba for a request without a solution, as opposed to other failures.
_UNSOLVABLE = (
    "could not solve",
    "unsatisfiable",
    "packagesnotfound",
    "nothing provides",
    "conflict",
    "not available from current channels",
    "solver_problems",
)
# conda-lock prints micromamba's answer, which has no message, as Python writes it.
_PROBLEMS = re.compile(r"^\{.*'solver_problems': .*\}$", re.MULTILINE)
_LINES = 20


@dataclass(frozen=True)
class CondaLockSolver:
    """The user's channels with conda-lock as solver; see :class:`~imagesync.lock.conda.solver.CondaSolver`.

    Parameters
    ----------
    user_channels
        The channels.
    environ
        Environment variables of conda-lock.
    progress
        Gets the name of the executable.
    micromamba
        The executable of the settings; ``None`` to search for one.
    """

    user_channels: Channels
    environ: Mapping[str, str] = field(repr=False)
    progress: Progress = field(repr=False)
    micromamba: Path | None = None

    @property
    def platform(self) -> Platform:
        """Return the platform of the image."""
        return self.user_channels.platform

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the URLs of the channels without credentials, the preferred one first."""
        return self.user_channels.channels

    @property
    def cuda(self) -> str:
        """Return the CUDA version that the drivers of the cluster's machines support; empty for none."""
        return self.user_channels.cuda

    @property
    def priority(self) -> ChannelPriority:
        """Return the setting ``channel_priority``; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.user_channels.priority

    @property
    def pins(self) -> tuple[str, ...]:
        """Return the user's pins; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.user_channels.pins

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str] | None = None
    ) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return the packages of the channels; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.user_channels.available(names, subdirs=subdirs)

    def has_archive(self, package: LockedConda) -> bool:
        """Return True if an archive is here; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.user_channels.has_archive(package)

    def digest(self, record: CondaRecord) -> str:
        """Return the digest of an archive; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.user_channels.digest(record)

    @cached_property
    def executable(self) -> CondaExecutable:
        """Return the executable that solves, found with the first request, and report it."""
        self._refuse_credentials()
        found = find_conda(self.environ, micromamba=self.micromamba)
        self.progress.line(f"Solving with conda-lock and {found}")
        return found

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return a solution of *request*; see :class:`~imagesync.lock.conda.solver.CondaSolver`.

        conda-lock knows no preferred packages: it takes the newest versions that the specs allow.
        """
        from imagesync.lock.conda.conda_lock_file import parse_file, require_conda_lock

        require_conda_lock()
        request = self.user_channels.completed(request)
        executable = self.executable
        with scratch_folder("conda-lock") as folder:
            locked = folder / "conda-lock.yml"
            self._run(request, executable, folder, locked)
            entries = [entry for entry in parse_file(locked).package if entry.manager == "conda"]
        # conda-lock can't be told about externally provided packages.
        external = {package.name for package in request.externally_provided}
        kept = [entry for entry in entries if not entry.name.startswith("__") and entry.name not in external]
        return self._in_channels(kept, request)

    def _refuse_credentials(self) -> None:
        private = [
            url
            for url in self.user_channels.channels
            if "://" in url and self.user_channels.private_url(url) != url
        ]
        if private:
            raise LockError(
                f"{private[0]} needs credentials, and conda-lock puts them onto command lines that everybody "
                "on this machine can read.",
                hint="Use the solver that keeps them: --solver rattler",
            )

    def _run(self, request: CondaRequest, executable: CondaExecutable, folder: Path, locked: Path) -> None:
        source, virtual = folder / "environment.yml", folder / "virtual-packages.yml"
        names = {spec.split()[0] for spec in request.specs}
        frozen = [f"{p.name}=={p.version}={p.build}" for p in request.frozen if p.name not in names]
        _refuse_options([*request.specs, *frozen, *self.user_channels.channels])
        # JSON is YAML, too.
        source.write_text(
            json.dumps(
                {
                    "channels": [*self.user_channels.channels, "nodefaults"],
                    "platforms": [self.platform.subdir],
                    "dependencies": [*request.specs, *frozen],
                }
            ),
            encoding="utf-8",
        )
        packages = {
            v.name: v.version if v.build == "0" else f"{v.version} {v.build}"
            for v in request.virtual_packages
        }
        virtual.write_text(
            json.dumps({"subdirs": {self.platform.subdir: {"packages": packages}}}), encoding="utf-8"
        )
        (folder / "lookup.json").write_text("{}", encoding="utf-8")
        command = [
            *module_command("conda_lock", "-W", "ignore"),
            *("lock", "--kind", "lock"),
            *("--conda", str(executable.path), "--platform", self.platform.subdir),
            *("--file", str(source), "--lockfile", str(locked), "--virtual-package-spec", str(virtual)),
            # An empty table of names: pip's packages aren't locked here.
            *("--pypi_to_conda_lookup_file", (folder / "lookup.json").as_uri()),
        ]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=request.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LockError(
                f"conda-lock found no solution with {executable.name} within {request.timeout:.0f} s.",
                hint="Try it with --solver rattler.",
            ) from error
        if done.returncode == 0 and locked.is_file():
            return
        output = redact(_solver_output(done.stderr) or "\n".join(done.stdout.strip().splitlines()[-_LINES:]))
        if any(mark in output.lower() for mark in _UNSOLVABLE):
            raise UnsolvableError(_problems(output) or output)
        raise LockError(
            f"conda-lock ended with {done.returncode}, and this is the end of what it said:\n{output}",
            hint="Try it with --solver rattler.",
        )

    def _in_channels(
        self, entries: Sequence[LockedDependency], request: CondaRequest
    ) -> tuple[LockedConda, ...]:
        """Return the packages of a solution with their entries in the channels."""
        known = {
            package.artifact.url: package
            for packages in self.user_channels.available(entry.name for entry in entries).values()
            for package in packages
        }
        known |= {package.artifact.url: package for package in (*request.preferred, *request.frozen)}
        found = []
        for entry in entries:
            package = known.get(strip_credentials(entry.url))
            if package is None:
                raise LockError(
                    f"conda-lock takes {entry.name} from {strip_credentials(entry.url)}, which isn't in the "
                    f"channels {', '.join(self.user_channels.channels)}.",
                    hint="Name its channel (--channel), or use --solver rattler.",
                )
            found.append(package)
        self._refuse_constrained(found, request)
        return tuple(sorted(found, key=lambda package: package.name))

    def _refuse_constrained(self, found: Sequence[LockedConda], request: CondaRequest) -> None:
        """Raise an error if a package violates the constraints, which conda-lock can't be told."""
        if not request.constraints:
            return
        from rattler import MatchSpec, Version, VersionSpec

        specs = {str(getattr(s.name, "normalized", s.name)): s for s in map(MatchSpec, request.constraints)}
        for package in found:
            spec = specs.get(package.name)
            version = spec.version if spec is not None else None
            if version and not VersionSpec(version).matches(Version(package.version)):
                raise UnsolvableError(
                    f"conda-lock chose {package.name} {package.version}, and {spec} is what is allowed."
                )


def _refuse_options(words: Iterable[str]) -> None:
    """Raise an error if conda, whose command line *words* become part of, would take one for an option."""
    if option := next((word for word in words if word.startswith("-")), None):
        raise LockError(
            f"{redact(option)!r} is neither a match spec nor a channel: conda would take it for an option.",
            hint="Correct it in the settings, in `.condarc` or in conda-meta/pinned.",
        )


def _solver_output(errors: str) -> str:
    """Return the output of the solver, which conda-lock prints before its own traceback."""
    _, mark, output = errors.partition("Could not lock the environment for platform")
    before = (
        (output if mark else errors).rpartition("Traceback (most recent call last):")[0] or output or errors
    )
    message = before.partition("    Command:")[0].strip().splitlines()[1:]
    return "\n".join((message or before.strip().splitlines())[-_LINES:])


def _problems(output: str) -> str:
    """Return the problems in the answer of micromamba, one a line; empty if it isn't one."""
    match = _PROBLEMS.search(output)
    try:
        problems = ast.literal_eval(match[0])["solver_problems"] if match is not None else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return "\n".join(map(str, problems)) if isinstance(problems, list) else ""
