"""conda-lock's own solver: what conda, mamba or micromamba make of the same request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact, strip_credentials
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.executable import CondaExecutable, find_conda
from imagesync.lock.conda.solver import IMAGE_SUBDIRS, CondaRequest
from imagesync.lock.lock import LockedConda

if TYPE_CHECKING:
    from conda_lock.lockfile.v2prelim.models import LockedDependency

    from imagesync.core.progress import Progress
    from imagesync.indexes.conda.configuration import ChannelPriority
    from imagesync.lock.conda.channels import Channels
    from imagesync.scan.environment import CondaRecord

_PLATFORM = "linux-64"
# How conda, mamba and micromamba say that there is no solution, and not that something else went wrong.
_UNSOLVABLE = (
    "could not solve",
    "unsatisfiable",
    "packagesnotfound",
    "nothing provides",
    "conflict",
    "not available from current channels",
)
_LINES = 20


@dataclass(frozen=True)
class CondaLockSolver:
    """The user's channels, solved for by conda-lock; see :class:`~imagesync.lock.conda.solver.CondaSolver`.

    Parameters
    ----------
    micromamba
        The executable that the settings name.
    """

    own: Channels
    environ: Mapping[str, str] = field(repr=False)
    progress: Progress = field(repr=False)
    micromamba: Path | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels' URLs without credentials, first the one that wins."""
        return self.own.channels

    @property
    def cuda(self) -> str:
        """Return the version of CUDA that the cluster's machines have a driver for; empty for none."""
        return self.own.cuda

    @property
    def priority(self) -> ChannelPriority:
        """Return how channels rank; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.own.priority

    @property
    def pins(self) -> tuple[str, ...]:
        """Return match specs that hold; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.own.pins

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str] = IMAGE_SUBDIRS
    ) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return what the channels have; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.own.available(names, subdirs=subdirs)

    def has_archive(self, package: LockedConda) -> bool:
        """Return whether an archive is here; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.own.has_archive(package)

    def digest(self, record: CondaRecord) -> str:
        """Return the digest of an archive; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.own.digest(record)

    @cached_property
    def executable(self) -> CondaExecutable:
        """Return what solves, and say which it is; nothing is looked for before something must be solved."""
        self._refuse_credentials()
        found = find_conda(self.environ, given=self.micromamba)
        self.progress.line(f"Solving with conda-lock and {found}")
        if found.is_known_to_fail:
            self.progress.line(
                f"warning: conda-lock is known to fail with {found.name} 2.6 and later "
                "(https://github.com/conda/conda-lock/issues/906); an older one, conda, or --solver rattler "
                "does without that."
            )
        return found

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return what satisfies *request*; see :class:`~imagesync.lock.conda.solver.CondaSolver`.

        The channels' packages can't be preferred here: what the specs leave open is the newest.
        """
        from imagesync.lock.lockfile.models import parse_file, require_conda_lock

        require_conda_lock()
        request = self.own.completed(request)
        executable = self.executable
        with tempfile.TemporaryDirectory(prefix="imagesync-conda-lock-") as folder:
            locked = Path(folder, "conda-lock.yml")
            self._run(request, executable, Path(folder), locked)
            entries = [entry for entry in parse_file(locked).package if entry.manager == "conda"]
        # It can't be told what something else provides.
        outside = {package.name for package in request.outside}
        kept = [entry for entry in entries if not entry.name.startswith("__") and entry.name not in outside]
        return self._found(kept, request)

    def _refuse_credentials(self) -> None:
        secret = [url for url in self.own.channels if "://" in url and self.own.private_url(url) != url]
        if secret:
            raise LockError(
                f"{secret[0]} needs credentials, and conda-lock puts them onto command lines that everybody "
                "on this machine can read.",
                hint="Use the solver that keeps them: --solver rattler",
            )

    def _run(self, request: CondaRequest, executable: CondaExecutable, folder: Path, locked: Path) -> None:
        source, virtual = folder / "environment.yml", folder / "virtual-packages.yml"
        names = {spec.split()[0] for spec in request.specs}
        held = [f"{p.name}=={p.version}={p.build}" for p in request.held if p.name not in names]
        # JSON is YAML, too.
        source.write_text(
            json.dumps(
                {
                    "channels": [*self.own.channels, "nodefaults"],
                    "platforms": [_PLATFORM],
                    "dependencies": [*request.specs, *held],
                }
            ),
            encoding="utf-8",
        )
        packages = {
            v.name: v.version if v.build == "0" else f"{v.version} {v.build}"
            for v in request.virtual_packages
        }
        virtual.write_text(json.dumps({"subdirs": {_PLATFORM: {"packages": packages}}}), encoding="utf-8")
        (folder / "lookup.json").write_text("{}", encoding="utf-8")
        command = [
            *(sys.executable, "-W", "ignore", "-m", "conda_lock", "lock", "--kind", "lock"),
            *("--conda", str(executable.path), "--platform", _PLATFORM),
            *("--file", str(source), "--lockfile", str(locked), "--virtual-package-spec", str(virtual)),
            # Which conda package has which distribution is asked of nobody: pip's part isn't locked here.
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
        said = redact(_said(done.stderr) or "\n".join(done.stdout.strip().splitlines()[-_LINES:]))
        if any(mark in said.lower() for mark in _UNSOLVABLE):
            raise UnsolvableError(said)
        raise LockError(
            f"conda-lock ended with {done.returncode}, and this is the end of what it said:\n{said}",
            hint="Try it with --solver rattler.",
        )

    def _found(self, entries: Sequence[LockedDependency], request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return the packages of a solution as the channels have them, with all that they say of them."""
        there = {
            package.artifact.url: package
            for packages in self.own.available(entry.name for entry in entries).values()
            for package in packages
        }
        there |= {package.artifact.url: package for package in (*request.preferred, *request.held)}
        found = []
        for entry in entries:
            package = there.get(strip_credentials(entry.url))
            if package is None:
                raise LockError(
                    f"conda-lock takes {entry.name} from {strip_credentials(entry.url)}, which isn't in the "
                    f"channels {', '.join(self.own.channels)}.",
                    hint="Name its channel (--channel), or use --solver rattler.",
                )
            found.append(package)
        self._refuse_constrained(found, request)
        return tuple(sorted(found, key=lambda package: package.name))

    def _refuse_constrained(self, found: Sequence[LockedConda], request: CondaRequest) -> None:
        """Raise if a package that came in isn't one that the request allows; conda-lock can't be told."""
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


def _said(errors: str) -> str:
    """Return what the program said through conda-lock, which prints it before a traceback of its own."""
    _, mark, said = errors.partition("Could not lock the environment for platform")
    before = (said if mark else errors).rpartition("Traceback (most recent call last):")[0] or said or errors
    message = before.partition("    Command:")[0].strip().splitlines()[1:]
    return "\n".join((message or before.strip().splitlines())[-_LINES:])
