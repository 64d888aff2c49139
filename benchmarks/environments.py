"""The environments of the benchmarks, made from the pinned files in ``benchmarks/requirements``."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

from tests.channels.channel import ensure_channel, make_channel
from tests.channels.doubles import pure
from tests.channels.environments import make_conda_environment

SIZES = ("S", "M", "L", "C")
REQUIREMENTS = Path(__file__).parent / "requirements"
BIN = Path(sys.executable).parent
# The versions that a package changes to, one a turn. Both are in S, M and L.
LIGHT = ("click", ("8.5.0", "8.4.2", "8.4.1", "8.4.0", "8.3.3", "8.3.2", "8.3.1", "8.3.0", "8.2.2", "8.2.1"))
HEAVY = ("pandas", ("3.1.0", "3.0.6", "3.0.5", "3.0.4", "3.0.3", "3.0.2", "3.0.1", "3.0.0"))
PROJECT = "heron"
# Of C: real packages of the tests' channel, and small ones, to 150. None has a post-link script, which only
# an engine can run.
_SPECS = ("python", "numpy", "pandas", "dask", "distributed", "pip", "compass", "orchard-suite")
_ORCHIDS = 106


def clean_environ() -> dict[str, str]:
    """Return the variables that all sides run with: none of a private pip configuration but certificates.

    All sides then fetch everything from the same index over the network, where this machine may have folders
    of wheels that a container hasn't.
    """
    kept = {"PIP_CERT", "PIP_INDEX_URL"}
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PIP_") or key in kept}
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONDONTWRITEBYTECODE", "DOCKER_HOST", "IMAGESYNC_BASE"):
        environ.pop(name, None)
    return {**environ, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(
    *command: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None, code: int = 0
) -> str:
    """Return the stdout of a command.

    Raises
    ------
    RuntimeError
        It ended with another exit code than *code*.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=clean_environ() | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != code:
        raise RuntimeError(
            f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def tools(work: Path, python: str) -> Path:
    """Return the folder of the rivals' commands: the pinned versions, installed once."""
    return _virtual_environment(work / "tools", python, ["tools.txt"]) / "bin"


def _virtual_environment(folder: Path, python: str, files: Sequence[str], *more: str) -> Path:
    """Make a virtual environment of requirements files, or take it as an earlier call left it."""
    texts = [(REQUIREMENTS / name).read_text("utf-8") for name in files]
    done, wanted = folder / "made-from", "\n".join((python, *texts, *more))
    if not done.is_file() or done.read_text("utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        run(BIN / "uv", "venv", "--quiet", "--no-project", "--python", python, folder)
        wanted_files = [word for name in files for word in ("--requirements", str(REQUIREMENTS / name))]
        install = ["pip", "install", "--quiet", "--compile-bytecode", "--link-mode", "copy"]
        run(BIN / "uv", *install, "--python", folder / "bin" / "python", *wanted_files, *more)
        done.write_text(wanted, "utf-8")
    return folder


@dataclass
class Environment:
    """An environment that is benchmarked, with a project of two modules installed editable.

    Parameters
    ----------
    size
        One of :data:`SIZES`.
    prefix, project
        Its folder, and the project's.
    more
        What the project requires besides.
    """

    size: str
    prefix: Path
    project: Path
    more: tuple[str, ...] = ()
    _lines: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    @property
    def python(self) -> Path:
        """Return its interpreter."""
        return self.prefix / "bin" / "python"

    @property
    def wanted(self) -> list[str]:
        """Return the requirements that a person would write."""
        return [*(REQUIREMENTS / f"{self.size.lower()}.in").read_text("utf-8").split(), *self.more]

    def pins(self) -> dict[str, str]:
        """Return the version of each package, but for pip and the project."""
        lines = run(BIN / "uv", "pip", "list", "--python", self.python, "--format", "freeze").split()
        pairs = (line.partition("==") for line in lines)
        return {name: version for name, _, version in pairs if name not in ("pip", PROJECT)}

    def change(self, package: str, version: str) -> None:
        """Install another version of a package."""
        install = ["pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--link-mode", "copy"]
        run(BIN / "uv", *install, "--python", self.python, f"{package}=={version}")

    def edit(self) -> None:
        """Change a line of the project."""
        line = f"VALUE = {os.getpid()}, {next(self._lines)}\n"
        (self.project / "src" / PROJECT / "core.py").write_text(line, "utf-8")

    def restore(self) -> None:
        """Give packages that were changed their first versions again."""
        first = {
            requirement.name: str(requirement.specifier)[2:]
            for requirement in map(Requirement, _pinned(self.size))
        }
        for name, _ in (LIGHT, HEAVY) if self.size != "C" else ():
            self.change(name, first[name])


def _pinned(size: str) -> list[str]:
    return (REQUIREMENTS / f"{size.lower()}.txt").read_text("utf-8").splitlines()


def make_environment(size: str, work: Path, python: str) -> Environment:
    """Make the environment of a size, or take it as an earlier call left it."""
    environment = Environment(size, work / size / "env", work / size / PROJECT)
    if size == "C":
        _make_conda(environment.prefix, work / size)
    else:
        _virtual_environment(environment.prefix, python, [f"{size.lower()}.txt"], "pip==26.3")
    write_project(environment)
    install = ("pip", "install", "--quiet", "--no-deps", "--python", environment.python)
    run(BIN / "uv", *install, "--editable", environment.project)
    environment.restore()
    return environment


def with_coiled(work: Path, python: str) -> Path:
    """Return the interpreter of an environment of S with Coiled's client, which scans the one it is in."""
    return _virtual_environment(work / "with-coiled", python, ["coiled.txt"], "pip==26.3") / "bin" / "python"


def _make_conda(prefix: Path, work: Path) -> None:
    orchids = [f"orchid-{number:03}" for number in range(_ORCHIDS)]
    done, wanted = work / "made-from", "\n".join((*_SPECS, *orchids, *_pinned("C")))
    if done.is_file() and done.read_text("utf-8") == wanted:
        return
    for folder in (prefix, work / "channel"):
        shutil.rmtree(folder, ignore_errors=True)
    more = make_channel(work / "channel", [pure(name, "1.2.3", depends=("toolz",)) for name in orchids])
    make_conda_environment([ensure_channel(), more], [*_SPECS, *orchids], prefix, pip=_pinned("C"))
    done.write_text(wanted, "utf-8")


def write_project(environment: Environment) -> None:
    """Write the project of two modules that an environment has."""
    package = environment.project / "src" / PROJECT
    package.mkdir(parents=True, exist_ok=True)
    wanted = ", ".join(f'"{name}"' for name in environment.wanted)
    (environment.project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{PROJECT}"\nversion = "1.0"\nrequires-python = ">=3.11"\n'
        f"dependencies = [{wanted}]\n",
        "utf-8",
    )
    (package / "__init__.py").write_text(f"from {PROJECT}.core import VALUE\n", "utf-8")
    environment.edit()
