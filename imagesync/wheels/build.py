"""Wheels from source trees, by PEP 517, isolated or in the scanned environment itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from imagesync.core.credentials import redact
from imagesync.errors import WheelError

if TYPE_CHECKING:
    from imagesync.scan.environment import Interpreter
    from imagesync.wheels.build_indexes import BuildIndexes
    from imagesync.wheels.build_pins import BuildPins
    from imagesync.wheels.build_requirements import InstalledRequirements

# zip can't hold an earlier time.
SOURCE_DATE_EPOCH = "315532800"
_LOG_END = 25
# They belong to the environment that imagesync runs in, or that the user works in.
_PYTHON_VARIABLES = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"})


@dataclass(frozen=True)
class BuildRequest:
    """A wheel to build.

    Parameters
    ----------
    name, version
        What is expected; the version is offered to backends that would take it from version control.
    source
        A folder that the backend may write into.
    python
        The interpreter that extension modules are built for.
    indexes
        Where build requirements come from.
    uv
        The executable that makes the isolated environment.
    log
        Where everything goes that the backend says, without credentials.
    pins
        What build requirements were resolved to before; ``None`` resolves them each time.
    installed
        What is installed beside *python*, to build with that and not in an isolated environment;
        ``None`` isolates the build.
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


def build_wheel(request: BuildRequest, *, output: Path) -> Path:
    """Return the wheel that the project's own backend makes of *request*, written into the folder *output*.

    Raises
    ------
    WheelError
        The project can't be built; the end of the log is in the message. Or a build requirement isn't
        installed, and the build isn't isolated.
    """
    from build import BuildException, ProjectBuilder

    request.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        request.log.open("w", encoding="utf-8") as log,
        tempfile.TemporaryDirectory(prefix="imagesync-") as place,
    ):
        run = _Runner(log)
        environment = (
            _IsolatedEnvironment(Path(place), request, run)
            if request.installed is None
            else _ScannedEnvironment(request, request.installed)
        )
        backend_environ = _backend_environ(request)

        def call_hook(
            cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
        ) -> None:
            run(
                cmd,
                cwd=cwd,
                environ={**backend_environ, **environment.make_extra_environ(), **(extra_environ or {})},
            )

        try:
            environment.create()
            builder = ProjectBuilder(request.source, environment.python_executable, call_hook)
            environment.install(builder.build_system_requires)
            environment.install(builder.get_requires_for_build("wheel"))
            return Path(builder.build("wheel", output))
        except (BuildException, subprocess.CalledProcessError, OSError) as error:
            raise _failure(request, error, run) from error
        except Exception as error:
            # Among the rest are BuildBackendException and what pyproject_hooks raises.
            if type(error).__module__.partition(".")[0] not in ("build", "pyproject_hooks"):
                raise
            raise _failure(request, error, run) from error


class _Runner:
    """Runs commands, with their output in the log, credentials taken out line by line."""

    def __init__(self, log: IO[str]) -> None:
        self._log = log
        self.end: deque[str] = deque(maxlen=_LOG_END)

    def __call__(self, command: Sequence[str], *, cwd: str | None, environ: Mapping[str, str]) -> None:
        with subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            try:
                for line in process.stdout or ():
                    self.note(line)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, list(command))

    def note(self, line: str) -> None:
        clean = redact(line)
        self._log.write(clean)
        self.end.append(clean.rstrip())


class _IsolatedEnvironment:
    """A virtual environment of the scanned interpreter; build's own can only be of the running one."""

    def __init__(self, place: Path, request: BuildRequest, run: _Runner) -> None:
        self._folder = place / "env"
        self._place = place
        self._request = request
        self._run = run

    @property
    def python_executable(self) -> str:
        return os.fspath(self._scripts / ("python.exe" if os.name == "nt" else "python"))

    @property
    def _scripts(self) -> Path:
        return self._folder / ("Scripts" if os.name == "nt" else "bin")

    def make_extra_environ(self) -> dict[str, str]:
        path = os.pathsep.join([os.fspath(self._scripts), os.environ.get("PATH", os.defpath)])
        return {"PATH": path, "VIRTUAL_ENV": os.fspath(self._folder)}

    def create(self) -> None:
        # Where only files were scanned there is no interpreter to run; one like it does for pure Python.
        python = self._request.python.executable or self._request.python.minor
        self._uv("venv", "--quiet", "--no-project", "--python", python, os.fspath(self._folder))

    def install(self, requirements: Collection[str]) -> None:
        if not requirements:
            return
        listed = self._place / "requirements.txt"
        listed.write_text("\n".join(sorted(requirements)) + "\n", encoding="utf-8")
        self._run.note(f"Installing {', '.join(sorted(requirements))}\n")
        if self._install_again(requirements):
            return
        indexes = self._request.indexes
        while True:
            silent = indexes.silent
            try:
                self._install_from_indexes(listed)
                break
            except subprocess.CalledProcessError:
                if not indexes.find_silent(_project(requirements), known=silent):
                    raise
        if self._request.pins is not None:
            self._request.pins.remember(requirements, self._frozen())

    def _install_from_indexes(self, listed: Path) -> None:
        no_index = ["--no-index"] if self._request.indexes.no_index else []
        self._uv(
            *("pip", "install", "--index-strategy", "unsafe-best-match", *no_index),
            *("--python", self.python_executable, "--requirements", os.fspath(listed)),
        )

    def _install_again(self, requirements: Collection[str]) -> bool:
        """Install the versions that were resolved to before, without an index; return whether that works."""
        pins = self._request.pins.recall(requirements) if self._request.pins is not None else None
        if pins is None:
            return False
        listed = self._place / "pins.txt"
        listed.write_text(pins, encoding="utf-8")
        options = ["--offline", "--no-deps", "--index-strategy", "unsafe-best-match"]
        # The pins keep to the constraints, and a constraint's URL can't be read offline.
        unconstrained = {"UV_CONSTRAINT": "", "UV_BUILD_CONSTRAINT": ""}
        try:
            self._uv(
                *("pip", "install", *options, "--python", self.python_executable),
                *("--requirements", os.fspath(listed)),
                environ=unconstrained,
            )
        except subprocess.CalledProcessError:
            return False  # uv's cache was cleared meanwhile
        return True

    def _frozen(self) -> str:
        command = [self._request.uv, "pip", "freeze", "--python", self.python_executable]
        done = subprocess.run(command, cwd=self._place, env=self._environ(), capture_output=True, check=True)
        return done.stdout.decode()

    def _environ(self) -> dict[str, str]:
        environ = self._request.indexes.environment()
        inherited = {key: value for key, value in environ.items() if key not in _PYTHON_VARIABLES}
        return inherited | {"VIRTUAL_ENV": os.fspath(self._folder), "UV_PYTHON_DOWNLOADS": "never"}

    def _uv(self, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        # A uv.toml or pyproject.toml near the sources says nothing about the build's environment.
        environ = {**self._environ(), **(environ or {})}
        self._run([self._request.uv, *arguments], cwd=os.fspath(self._place), environ=environ)


def _project(requirements: Collection[str]) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in sorted(requirements):
        with contextlib.suppress(InvalidRequirement):
            return Requirement(line).name
    return "setuptools"


class _ScannedEnvironment:
    """The scanned environment itself; nothing is installed into it."""

    def __init__(self, request: BuildRequest, installed: InstalledRequirements) -> None:
        self._request = request
        self._installed = installed

    @property
    def python_executable(self) -> str:
        return self._request.python.executable

    def make_extra_environ(self) -> dict[str, str]:
        python = self._request.python
        # What activating it would set: CMake and Meson look for a conda environment's libraries by it.
        is_conda = (Path(python.prefix) / "conda-meta").is_dir()
        scripts = os.fspath(Path(python.executable).parent)
        return {
            "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
            ("CONDA_PREFIX" if is_conda else "VIRTUAL_ENV"): python.prefix,
        }

    def create(self) -> None:
        """Do nothing: it is there."""

    def install(self, requirements: Collection[str]) -> None:
        """Refuse to go on where one of *requirements* isn't installed."""
        unmet = self._installed.unmet(requirements)
        if not unmet:
            return
        from imagesync.plan.install_commands import install_command_for

        request = self._request
        command = install_command_for(request.python, unmet, has_pip="pip" in self._installed.distributions)
        raise WheelError(
            f"{request.name} {request.version} is built without isolation, and what its build requires isn't "
            f"installed in {request.python.prefix}: {', '.join(map(redact, unmet))}",
            hint=redact(f"{command}\nOr remove the package from `no-isolation`."),
        )


def _backend_environ(request: BuildRequest) -> dict[str, str]:
    """Return the backend's variables: stable times, and the installed version where version control gives it.

    The installed version is what the user runs, and what other packages see; a commit more than at
    the time of installation makes the code newer, and not the metadata.
    """
    environ = {key: value for key, value in os.environ.items() if key not in _PYTHON_VARIABLES}
    name = request.name.replace("-", "_").replace(".", "_").upper()
    if request.version:
        # hatch-vcs doesn't tell setuptools-scm for which project it asks.
        environ["SETUPTOOLS_SCM_PRETEND_VERSION"] = request.version
        environ[f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{name}"] = request.version
        environ["POETRY_DYNAMIC_VERSIONING_BYPASS"] = request.version
        environ["UV_DYNAMIC_VERSIONING_BYPASS"] = request.version
        environ["PDM_BUILD_SCM_VERSION"] = request.version
        environ["PBR_VERSION"] = request.version
    environ.setdefault("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH)
    return environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}


def _failure(request: BuildRequest, error: Exception, run: _Runner) -> WheelError:
    # A backend that can't be imported says so in an exception, and nothing in the log.
    for line in getattr(getattr(error, "exception", error), "traceback", "").splitlines():
        run.note(f"{line}\n")
    reason = "" if isinstance(error, subprocess.CalledProcessError) else redact(str(error))
    return failure(request.name, request.version, run.end, request.log, reason=reason)


def failure(name: str, version: str, end: Iterable[str], log: Path, *, reason: str = "") -> WheelError:
    """Return the error of a build that failed.

    Parameters
    ----------
    end
        The last lines of the log.
    log
        Where all of it is.
    """
    said = "\n".join(f"    {line}" for line in end)
    return WheelError(
        f"{name} {version}: no wheel can be built from its sources"
        + (f": {reason}" if reason else "")
        + (f"\nThe end of the log:\n{said}" if said else ""),
        hint=f"All of the log is in {log}. To leave the package out, add it to `ignore`.",
    )


@contextlib.contextmanager
def build_folder() -> Iterator[Path]:
    """Give a temporary folder for a build, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="imagesync-build-") as folder:
        yield Path(folder).resolve()
