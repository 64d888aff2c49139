"""Resolving with pip-tools: slower than uv, with exactly pip's choices.

``pip-compile`` finds the versions, and ``pip install --dry-run --report`` the artifact of each.
Both read pip's own configuration; that of the scanned environment is passed in ``PIP_*`` variables.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from packaging.requirements import Requirement

from imagesync.core.bounded_program import run_bounded
from imagesync.core.credentials import redact, strip_credentials
from imagesync.core.files import disk_hint
from imagesync.core.installation import module_command, own_installation
from imagesync.core.limits import TooSlow
from imagesync.core.names import canonical_name
from imagesync.core.platforms import this_machine_runs_on
from imagesync.core.scratch import scratch_folder
from imagesync.errors import LockError, UnsolvableError
from imagesync.indexes.pypi.access import Access
from imagesync.indexes.pypi.uv_environment import (
    keyring_path,
    pip_environment,
    without_variables,
)
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.lock.resolvers.resolver import (
    IndexResolver,
    ResolutionRequest,
    with_digest,
    write_metadata_wheels,
)
from imagesync.lock.wheel_tags import filename_of, target_platforms

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

_PIP_DRY_RUN = ("pip", "install", "--quiet", "--no-input", "--dry-run", "--ignore-installed")
# Output of pip beside the reason of a failure.
_NOISE = (
    "WARNING: Location",
    "[notice]",
    "Ignored the following",
    "ResolutionImpossible: for help",
    "To fix this you could try to",
    "1. loosen the range",
    "2. remove package versions",
)
# pip's exit code is always 1; these phrases mean that an index can't be reached.
_UNREACHABLE = (
    "Retrying (Retry(",
    "401 Error",
    "403 Client Error",
    "Could not fetch URL",
    "Cannot connect",
)


class PipToolsResolver(IndexResolver):
    """A resolver with pip-tools and pip of imagesync's own environment, for the local platform alone."""

    name: Literal["pip-tools"] = "pip-tools"

    def __init__(self, indexes: IndexConfiguration, *, environ: Mapping[str, str], access: Access) -> None:
        super().__init__(indexes, environ=environ, access=access)
        variables = environ if indexes.tool == "pip" else without_variables(environ)
        self._environment = pip_environment(indexes, variables)
        self._environment["PATH"] = keyring_path(environ)

    def check(self, target: Target) -> None:
        """Check that *target* is the local platform; see :class:`Resolver`."""
        if importlib.util.find_spec("piptools") is None:
            raise LockError(
                "The resolver 'pip-tools' is chosen, and pip-tools isn't installed beside imagesync.",
                hint=f"Install it there: {own_installation().add_extra('pip-tools')}\n"
                'Or leave the choice to uv (resolver = "uv").',
            )
        if self.indexes.bound:
            raise LockError(
                f"pip-tools can't ask an index for single packages, as {self.indexes.source} wants it for "
                f"{self.indexes.bound[0].package}.",
                hint='Choose resolver = "uv" in [tool.imagesync].',
            )
        local = f"Python {platform.python_version()} on {sys.platform} {platform.machine()}"
        minor = ".".join(platform.python_version_tuple()[:2])
        if not this_machine_runs_on(target.platform) or minor != target.minor:
            raise LockError(
                f"pip-tools locks only for the platform that it runs on ({local}), "
                f"and the image has Python {target.python_version} on {target.platform}.",
                hint='Choose resolver = "uv" in [tool.imagesync], which locks for any platform'
                f", or run imagesync with Python {target.minor}.",
            )

    def resolve(self, request: ResolutionRequest) -> tuple[LockedPackage, ...]:
        """Return the packages that satisfy *request*; see :class:`Resolver`."""
        self._note_request(request)
        with scratch_folder("lock") as folder:
            requirements: Sequence[str] = request.requirements
            if request.dependencies:
                requirements = self._compile(request, folder)
            if not requirements:
                return ()
            if request.dependencies and request.versions_only:
                # The requirements are pins now.
                return tuple(map(_version_alone, requirements))
            if request.hashes:
                requirements = [_with_hashes(line, request.hashes) for line in requirements]
            report = self._report(requirements, request.target, folder)
        return tuple(self._locked(entry) for entry in report)

    def _compile(self, request: ResolutionRequest, folder: Path) -> list[str]:
        """Return pins of the packages that satisfy *request*, vendored packages aside."""
        vendored_wheels = write_metadata_wheels(request.vendored, folder)
        source, constraints, output = folder / "all.in", folder / "constraints.txt", folder / "all.txt"
        constraints.write_text("\n".join(request.constraints) + "\n", "utf-8")
        options = (f"-c {constraints}", *(f"--only-binary {name}" for name in request.wheels_only))
        source.write_text("\n".join((*options, *request.requirements, *vendored_wheels)) + "\n", "utf-8")
        # pip-compile prefers the pins of an existing output file.
        pins = (f"{name}=={version}\n" for name, version in request.preferred.items())
        output.write_text("".join(pins), "utf-8")
        finished = self._run(
            *("piptools", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate"),
            *("--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options"),
            *("--allow-unsafe", "--strip-extras", "--resolver", "backtracking"),
            *("--output-file", str(output), "--", str(source)),
            timeout=request.timeout,
        )
        if finished.returncode != 0 and request.versions_only:
            raise self._failure(finished.stderr)
        if finished.returncode != 0:
            raise self._with_reason(finished.stderr, (*request.requirements, *vendored_wheels), constraints)
        vendored = {package.name for package in request.vendored}
        lines = (line.strip() for line in output.read_text("utf-8").splitlines())
        pinned = [line for line in lines if line and not line.startswith(("#", "-"))]
        return [line for line in pinned if canonical_name(Requirement(line).name) not in vendored]

    def _report(self, requirements: Sequence[str], target: Target, folder: Path) -> list[Mapping[str, Any]]:
        """Return the entries of pip's installation report for *requirements*, without dependencies."""
        source, report = folder / "pins.txt", folder / "report.json"
        source.write_text("\n".join(requirements) + "\n", "utf-8")
        major, minor = target.minor.split(".")
        abis = (f"cp{major}{minor}", "abi3", "none")
        finished = self._run(
            *_PIP_DRY_RUN,
            *("--no-deps", "--report", str(report), "--requirement", str(source)),
            *("--python-version", target.python_version, "--implementation", "cp"),
            *(part for abi in abis for part in ("--abi", abi)),
            *(part for name in target_platforms(target) for part in ("--platform", name)),
        )
        if finished.returncode != 0:
            raise self._failure(finished.stderr)
        entries: list[Mapping[str, Any]] = json.loads(report.read_text("utf-8"))["install"]
        return entries

    def _with_reason(self, output: str, requirements: Sequence[str], constraints: Path) -> LockError:
        # pip-compile ends with a traceback, where pip names the conflicting packages.
        finished = self._run(
            *_PIP_DRY_RUN, "--verbose", "--constraint", str(constraints), "--", *requirements
        )
        if finished.returncode == 0:
            return self._failure(output)
        _, heading, cause = finished.stdout.partition("The conflict is caused by:")
        return self._failure(f"{finished.stderr}\n{heading}{cause}")

    def _failure(self, output: str) -> LockError:
        output = redact(output)
        if hint := disk_hint(output):
            return LockError(f"pip can't answer: {_readable(output)}", hint=hint)
        if any(sign in output for sign in _UNREACHABLE):
            return LockError(
                f"pip can't ask the index: {_readable(output)}",
                hint=f"Check index URLs and credentials in {self.indexes.source}, and the network.",
            )
        return UnsolvableError(_readable(output))

    def _run(
        self, module: str, *arguments: str, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return run_bounded([*module_command(module), *arguments], env=self._environment, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise LockError(f"pip-tools found no answer within {error.timeout:.1f} s.") from error
        except TooSlow as error:
            raise self._too_slow(error) from error

    def _locked(self, entry: Mapping[str, Any]) -> LockedPackage:
        url = strip_credentials(entry["download_info"]["url"])
        archive = entry["download_info"].get("archive_info", {})
        digest = archive.get("hashes", {}).get("sha256")
        artifact = Artifact(
            filename=filename_of(url),
            url=url,
            digest=f"sha256:{digest}" if digest else "",
        )
        about = entry["metadata"]
        return LockedPackage(
            canonical_name(about["name"]), about["version"], with_digest(artifact, self._access)
        )


def _with_hashes(line: str, hashes: Mapping[NormalizedName, frozenset[str]]) -> str:
    allowed = sorted(hashes.get(canonical_name(Requirement(line).name), ()))
    return " ".join((line, *(f"--hash={digest}" for digest in allowed)))


def _version_alone(line: str) -> LockedPackage:
    pinned = Requirement(line)
    (specifier,) = pinned.specifier
    return LockedPackage(canonical_name(pinned.name), specifier.version, Artifact("", "", ""))


def _readable(output: str) -> str:
    lines = output.partition("Traceback (most recent call last)")[0].splitlines()
    stripped = (line.strip().removeprefix("ERROR:").strip() for line in lines)
    return "\n".join(line for line in stripped if line and not line.startswith(_NOISE))
