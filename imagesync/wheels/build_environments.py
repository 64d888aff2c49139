"""Environments that build back-ends run in: isolated ones, and the scanned environment itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from imagesync.core.bounded_program import bounded_transfers
from imagesync.core.build_log import LONGEST, BuildLog
from imagesync.core.credentials import redact
from imagesync.errors import WheelError
from imagesync.scan.pip_commands import Installer
from imagesync.wheels.kept_environment import environment_state

if TYPE_CHECKING:
    from imagesync.scan.environment import Interpreter
    from imagesync.wheels.build_indexes import BuildIndexes
    from imagesync.wheels.build_requirements import BuildPins, InstalledRequirements
    from imagesync.wheels.kept_environment import KeptEnvironment

_PIPE = 1 << 16  # bytes that a pipe holds, on Linux
_DRAIN = 3.0  # seconds for reading them on a busy machine
# Variables of the environment that imagesync runs in, or that the user has activated.
PYTHON_VARIABLES = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"})


@dataclass(frozen=True)
class BuildRequest:
    """A wheel to build.

    Parameters
    ----------
    name, version
        The expected ones. The version is offered to backends that would take it from version control.
    source
        The source tree; the backend may write into it.
    python
        The interpreter that extension modules are built for.
    indexes
        The indexes of build requirements.
    log
        The file for the backend's output, without credentials.
    uv
        The executable that creates the isolated environment.
    pins
        The cache of resolved build requirements; ``None`` for no cache.
    installed
        The distributions of *python*, for a build without isolation; ``None`` for an isolated build.
    commit
        The commit of the sources, in hexadecimal; empty if unknown.
    kept
        The place for the isolated environment, for another build of the package; ``None`` to make a new one.
    """

    name: str
    version: str
    source: Path
    python: Interpreter
    indexes: BuildIndexes
    log: Path
    uv: str
    pins: BuildPins | None = None
    installed: InstalledRequirements | None = None
    commit: str = ""
    kept: KeptEnvironment | None = None


class Runner:
    """Runs commands with their output in the log.

    Parameters
    ----------
    log
        Gets the output of all commands.
    """

    def __init__(self, log: BuildLog) -> None:
        self.log = log

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: str | None,
        environ: Mapping[str, str],
        asks_indexes: bool = False,
    ) -> None:
        """Run *command*; raise ``CalledProcessError`` if it fails, and ``TooSlow`` if indexes are."""
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert process.stdout is not None  # noqa: S101  for the type checker
        output = _Output(process.stdout, self.log)
        output.start()
        try:
            with bounded_transfers(process) if asks_indexes else contextlib.nullcontext():
                process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            output.finish()
        if output.error is not None:
            raise output.error
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, list(command))


class _Output(threading.Thread):
    """Reads the output of a command.

    It is a thread because a process that the command leaves behind, such as a compiler's cache, keeps the
    pipe open.
    """

    def __init__(self, pipe: IO[bytes], log: BuildLog) -> None:
        super().__init__(daemon=True)
        self.error: OSError | None = None
        self._pipe = pipe
        self._log = log
        self._has_ended = threading.Event()
        self._is_over = threading.Event()

    def finish(self) -> None:
        """Take what is still in the pipe, after the command's end."""
        self._has_ended.set()
        self.join(_DRAIN)
        self._is_over.set()
        self._log.end_line()

    def run(self) -> None:
        """Read to the end of the output."""
        left = _PIPE
        try:
            # A process that was left behind and prints on is ended by the pipe's end.
            with self._pipe as pipe:
                while left > 0 and (piece := pipe.read(LONGEST)) and not self._is_over.is_set():
                    if self._has_ended.is_set():
                        left -= len(piece)
                    self._log.feed(piece)
        except OSError as error:  # the log can't be written
            self.error = error


class IsolatedEnvironment:
    """A virtual environment of the scanned interpreter; `build` only creates one of the running one."""

    def __init__(self, place: Path, request: BuildRequest, run: Runner) -> None:
        self._folder = place / "env"
        self._place = place
        self._request = request
        self._run = run
        self._key = self._state = ""

    @property
    def python_executable(self) -> str:
        """Return the path of the interpreter."""
        return os.fspath(self._scripts / ("python.exe" if os.name == "nt" else "python"))

    @property
    def _scripts(self) -> Path:
        return self._folder / ("Scripts" if os.name == "nt" else "bin")

    def make_extra_environ(self) -> dict[str, str]:
        """Return the variables of an activated environment."""
        path = os.pathsep.join([os.fspath(self._scripts), os.environ.get("PATH", os.defpath)])
        return {"PATH": path, "VIRTUAL_ENV": os.fspath(self._folder)}

    def create(self, requirements: Collection[str]) -> None:
        """Create the virtual environment with *requirements*, or take that of the last build."""
        kept, key = self._request.kept, self._key_for(requirements)
        if kept is not None and key and kept.take(key, self._folder):
            self._run.log.line(f"Installed: {', '.join(sorted(requirements))}")
        else:
            # If only files were scanned, any interpreter of the same version is used, for pure Python.
            python = self._request.python.executable or self._request.python.minor
            self._uv("venv", "--quiet", "--no-project", "--python", python, os.fspath(self._folder))
            self._add(requirements)
            key = self._key_for(requirements)
        if kept is not None and key:
            self._key, self._state = key, environment_state(self._folder)

    def keep(self) -> None:
        """Keep the environment for another build, unless this one has changed it."""
        if self._request.kept is not None and self._key:
            self._request.kept.keep(self._folder, key=self._key, state=self._state)

    def _key_for(self, requirements: Collection[str]) -> str:
        """Return what an environment with *requirements* is made of; empty if that isn't known."""
        pins = self._request.pins
        versions = None if pins is None else pins.recall(requirements)
        if pins is None or versions is None:
            return ""
        return "\n".join((self._request.python.executable, pins.identity, versions))

    def install(self, requirements: Collection[str]) -> None:
        """Install further *requirements*, at cached versions or from the indexes."""
        if requirements:
            self._key = ""  # another build would begin with them
            self._add(requirements)

    def _add(self, requirements: Collection[str]) -> None:
        if not requirements:
            return
        self._refuse_options(requirements)
        self._run.log.line(f"Installing {', '.join(sorted(requirements))}")
        if self._install_again(requirements):
            return
        indexes = self._request.indexes
        while True:
            silent = indexes.silent
            try:
                self._install_from_indexes(requirements)
                break
            except subprocess.CalledProcessError:
                if not indexes.find_silent(_project(requirements), known=silent):
                    raise
        if self._request.pins is not None:
            self._request.pins.remember(requirements, self._frozen())

    def _refuse_options(self, requirements: Collection[str]) -> None:
        """Refuse requirements of the project that would be options in a requirements file."""
        refused = next((line for line in requirements if not _is_requirement(line)), None)
        if refused is not None:
            raise WheelError(
                f"{self._request.name} {self._request.version}: its build requires {redact(refused)!r}, "
                "which is no requirement (PEP 508).",
                hint="Correct `build-system.requires` in its pyproject.toml.",
            )

    def _install_from_indexes(self, requirements: Collection[str]) -> None:
        no_index = ["--no-index"] if self._request.indexes.no_index else []
        self._install(requirements, "requirements", *no_index)

    def _install(
        self,
        requirements: Collection[str],
        name: str,
        *options: str,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        indexes = self._request.indexes
        files, credentials = indexes.write_requirements(requirements, self._place, name)
        self._uv(
            *("pip", "install", "--index-strategy", indexes.strategy, *options),
            *("--python", self.python_executable),
            *(word for file in files for word in ("--requirements", os.fspath(file))),
            environ={**credentials, **(environ or {})},
        )

    def _install_again(self, requirements: Collection[str]) -> bool:
        """Install the cached versions without an index; return True if that succeeds."""
        pins = self._request.pins.recall(requirements) if self._request.pins is not None else None
        if pins is None:
            return False
        # The pins satisfy the constraints, whose URLs can't be read offline.
        unconstrained = {"UV_CONSTRAINT": "", "UV_BUILD_CONSTRAINT": ""}
        try:
            self._install(pins.splitlines(), "pins", "--offline", "--no-deps", environ=unconstrained)
        except subprocess.CalledProcessError:
            return False  # uv's cache has been cleared
        return True

    def _frozen(self) -> str:
        command = [self._request.uv, "pip", "freeze", "--python", self.python_executable]
        done = subprocess.run(command, cwd=self._place, env=self._environ(), capture_output=True, check=True)
        return done.stdout.decode()

    def _environ(self) -> dict[str, str]:
        environ = self._request.indexes.environment(self._place)
        inherited = {key: value for key, value in environ.items() if key not in PYTHON_VARIABLES}
        return inherited | {"VIRTUAL_ENV": os.fspath(self._folder), "UV_PYTHON_DOWNLOADS": "never"}

    def _uv(self, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        # A uv.toml or pyproject.toml near the sources must not affect the build environment.
        environ = {**self._environ(), **(environ or {})}
        self._run(
            [self._request.uv, *arguments],
            cwd=os.fspath(self._place),
            environ=environ,
            asks_indexes=True,
        )


def _is_requirement(line: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(line)
    except InvalidRequirement:
        return False
    # An option behind a line break would stand alone in a requirements file.
    return "\n" not in line and "\r" not in line


def _project(requirements: Collection[str]) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in sorted(requirements):
        with contextlib.suppress(InvalidRequirement):
            return Requirement(line).name
    return "setuptools"


class ScannedEnvironment:
    """The scanned environment, for builds without isolation; nothing is installed."""

    def __init__(self, request: BuildRequest, installed: InstalledRequirements) -> None:
        self._request = request
        self._installed = installed

    @property
    def python_executable(self) -> str:
        """Return the path of the interpreter."""
        return self._request.python.executable

    def make_extra_environ(self) -> dict[str, str]:
        """Return the variables of an activated environment."""
        python = self._request.python
        # As activation would set it: CMake and Meson find the libraries of a conda environment by it.
        is_conda = (Path(python.prefix) / "conda-meta").is_dir()
        scripts = os.fspath(Path(python.executable).parent)
        return {
            "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
            ("CONDA_PREFIX" if is_conda else "VIRTUAL_ENV"): python.prefix,
        }

    def create(self, requirements: Collection[str]) -> None:
        """Raise an error if one of *requirements* isn't installed; the environment exists."""
        self.install(requirements)

    def keep(self) -> None:
        """Do nothing: the environment stays."""

    def install(self, requirements: Collection[str]) -> None:
        """Raise an error if one of *requirements* isn't installed."""
        unmet = self._installed.unmet(requirements)
        if not unmet:
            return
        request = self._request
        command = Installer(request.python, has_pip="pip" in self._installed.distributions).install(unmet)
        raise WheelError(
            f"{request.name} {request.version} is built without isolation, and what its build requires isn't "
            f"installed in {request.python.prefix}: {', '.join(map(redact, unmet))}",
            hint=redact(f"{command}\nOr remove the package from `no-isolation`."),
        )
