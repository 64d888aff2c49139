# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH110, PTH112, PTH118, PTH120, PTH208
"""Discovery: the environment that a command scans, and how it was found."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imagesync.core.files import parse_toml
from imagesync.core.user_folders import home_folder
from imagesync.errors import ScanError, UsageError
from imagesync.indexes.configuration_files import project_folders
from imagesync.scan.environment import Interpreter
from imagesync.scan.environment_files import (
    extended,
    has_interpreter,
    is_conda_base,
    is_environment,
    is_isolated,
    is_same_folder,
    tool_of,
)
from imagesync.scan.interpreter import INTERPRETER_HINT, interpreter_of, named_interpreter

_PIXI = ".pixi/envs/default"
_VENV_ORIGIN = "the project's .venv"
_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy"}
# By each tool: the files that say so, the table in pyproject.toml, and what to do.
_MAKES = "This is a project of {}; make its environment: {}"
_NAMES = 'This is a project of {}; name its environment: --python "$({})"'
_TOOLS = (
    ("uv", ("uv.lock",), "uv", _MAKES.format("uv", "uv sync")),
    ("pixi", ("pixi.toml", "pixi.lock"), "pixi", _MAKES.format("pixi", "pixi install")),
    ("poetry", ("poetry.lock",), "poetry", _NAMES.format("poetry", "poetry env info --executable")),
    ("pdm", ("pdm.lock", ".pdm-python"), "pdm", _NAMES.format("pdm", "pdm info --python")),
    ("hatch", ("hatch.toml",), "hatch", _NAMES.format("hatch", "hatch env find")),
    ("pipenv", ("Pipfile",), "", _NAMES.format("pipenv", "pipenv --py")),
)
_ACTIVATE = "Activate an environment, or name its interpreter or folder: --python PATH"


@dataclass(frozen=True)
class FoundEnvironment:
    """The environment that was found, or named.

    Parameters
    ----------
    path
        The interpreter to run, or the folder to read.
    origin
        How it was found, for the line on stderr.
    files_only
        *path* is a folder, in which nothing is run.
    warnings
        Warnings about the choice.
    """

    path: Path
    origin: str
    files_only: bool = False
    warnings: tuple[str, ...] = ()

    def describe(self, interpreter: Interpreter) -> str:
        """Return the line that reports the environment and its *interpreter*."""
        name = _IMPLEMENTATIONS.get(interpreter.implementation, interpreter.implementation)
        return f"Using {name} {interpreter.version} in {interpreter.prefix} ({self.origin})"


def locate(
    *, python: Path | None = None, prefix: Path | None = None, environ: Mapping[str, str]
) -> FoundEnvironment:
    """Return the environment that *python* or *prefix* names, or that of the running interpreter.

    Parameters
    ----------
    python
        An executable, a command on ``PATH``, or the folder of an environment.
    prefix
        A folder whose files are read.
    environ
        Environment variables.

    Raises
    ------
    ScanError
        There is no interpreter there.
    UsageError
        Both are given.
    """
    if python is not None and prefix is not None:
        raise UsageError("--python and --prefix exclude each other", hint="Give one of them.")
    if prefix is not None:
        return FoundEnvironment(prefix, "as given", files_only=True)
    if python is not None:
        return FoundEnvironment(Path(named_interpreter(python, environ)), "as given")
    if not sys.executable:
        raise ScanError("the running interpreter doesn't know its own path", hint=INTERPRETER_HINT)
    return FoundEnvironment(Path(sys.executable), "the running interpreter")


def discover(
    *, python: Path | None = None, prefix: Path | None = None, environ: Mapping[str, str], cwd: Path
) -> FoundEnvironment:
    """Return the environment that a command scans: the named one, or the first that is found.

    The order: the named one, ``VIRTUAL_ENV``, ``CONDA_PREFIX`` unless it is conda's base, the project's
    environment, conda's base, and that of imagesync itself unless it is a tool's.

    Parameters
    ----------
    python, prefix
        As for :func:`locate`.
    environ
        Environment variables.
    cwd
        The folder in which, or above which, the project lies.

    Raises
    ------
    ScanError
        The environment that is active or the project's has no interpreter, or there is none but that of a
        tool, which imagesync runs in.
    UsageError
        Both *python* and *prefix* are given.
    """
    if python is not None or prefix is not None:
        named = locate(python=python, prefix=prefix, environ=environ)
        return replace(named, origin="--prefix" if python is None else "--python")
    home = home_folder(environ)
    folders = tuple(map(str, project_folders(Path(os.path.abspath(cwd)), home)))
    found = next(_candidates(environ, folders), None)
    if found is None:
        raise no_environment(environ, folders)
    return found


def _candidates(environ: Mapping[str, str], folders: tuple[str, ...]) -> Iterator[FoundEnvironment]:
    """Yield the candidates, the one with the highest precedence first.

    imagesync's own environment is one only if no tool made it. ``python -m imagesync`` names it, as
    ``python -m pip`` does; and so does ``PATH`` if it has its folder before that of the active environment,
    as in a notebook's kernel or a container.
    """
    own = None if tool_of(sys.prefix) else locate(environ=environ)
    virtual = environ.get("VIRTUAL_ENV", "")
    conda = environ.get("CONDA_PREFIX", "")
    base = conda if conda and is_conda_base(conda, environ) else ""
    if own is not None and _is_module_run():
        yield replace(own, origin="python -m imagesync")
    if own is not None and is_isolated(sys.prefix) and not is_conda_base(sys.prefix, environ):
        active = virtual or ("" if base else conda)
        is_active = bool(active) and is_same_folder(active, sys.prefix)
        if not is_active and _is_first_on_path(sys.prefix, active, base, environ):
            yield replace(own, origin="imagesync is installed in it, and it is on PATH")
    project = next(_project_environments(environ, folders), None)
    if virtual:
        yield _active("VIRTUAL_ENV", extended(virtual), project)
    # One without a Python can't be meant where the project has one.
    if conda and not base and (project is None or has_interpreter(conda)):
        yield _active("CONDA_PREFIX", conda, project)
    if project is None or project.origin == _VENV_ORIGIN:
        _refuse_missing_uv_environment(environ, folders)
    if project is not None:
        interpreter = interpreter_of(project.folder, project.folder)
        yield FoundEnvironment(Path(interpreter), project.origin)
    if base and has_interpreter(base):
        yield FoundEnvironment(Path(interpreter_of(base, base)), "CONDA_PREFIX, conda's base")
    if own is not None:
        yield own


def _refuse_missing_uv_environment(environ: Mapping[str, str], folders: tuple[str, ...]) -> None:
    """Raise an error if ``UV_PROJECT_ENVIRONMENT`` names an environment that the project doesn't have."""
    named = environ.get("UV_PROJECT_ENVIRONMENT", "")
    roots = [folder for folder in folders if os.path.exists(os.path.join(folder, "pyproject.toml"))]
    paths = [os.path.normpath(os.path.join(folder, named)) for folder in roots]
    if named and paths and not any(map(is_environment, paths)):
        raise ScanError(
            f"UV_PROJECT_ENVIRONMENT names {paths[-1]}, which is no environment (any more)",
            hint="Make it: uv sync. Or unset UV_PROJECT_ENVIRONMENT to use the project's .venv. "
            + INTERPRETER_HINT,
        )


def _active(variable: str, folder: str, project: _ProjectEnvironment | None) -> FoundEnvironment:
    """Return the environment that *variable* names, with a warning where the project has another one."""
    if not os.path.isdir(folder):
        raise ScanError(
            f"{variable} names {folder}, which isn't a folder (any more)",
            hint=f"Activate an environment that exists, or unset {variable}. {INTERPRETER_HINT}",
        )
    interpreter = interpreter_of(folder, f"{variable} names {folder}, which")
    found = FoundEnvironment(Path(interpreter), variable)
    if project is None or project.has(folder):
        return found
    warning = (
        f"{variable} names {folder}, which is used; the project's own environment is {project.folder}: "
        f"to use that one, --python {project.folder}"
    )
    return replace(found, warnings=(warning,))


@dataclass(frozen=True)
class _ProjectEnvironment:
    """An environment that the tool of a project made.

    Parameters
    ----------
    folder
        Its prefix.
    origin
        How it was found.
    root
        The folder of the project.
    """

    folder: str
    origin: str
    root: str

    def has(self, folder: str) -> bool:
        """Return True if *folder* is this environment, or another one of the same pixi project."""
        pixi = os.path.join(self.root, ".pixi", "envs")
        return is_same_folder(folder, self.folder) or is_same_folder(
            os.path.dirname(os.path.abspath(folder)), pixi
        )


def _project_environments(
    environ: Mapping[str, str], folders: tuple[str, ...]
) -> Iterator[_ProjectEnvironment]:
    """Yield the environments of the project, the nearest first."""
    named = environ.get("UV_PROJECT_ENVIRONMENT", "")
    for folder in folders:
        if named and os.path.exists(os.path.join(folder, "pyproject.toml")):
            path = os.path.normpath(os.path.join(folder, named))
            if is_environment(path):
                yield _ProjectEnvironment(path, "UV_PROJECT_ENVIRONMENT", folder)
        path = os.path.join(folder, ".venv")
        if is_environment(path):
            yield _ProjectEnvironment(path, _VENV_ORIGIN, folder)
        path = os.path.join(folder, *_PIXI.split("/"))
        if has_interpreter(path):
            yield _ProjectEnvironment(path, f"the project's {_PIXI}", folder)


def _is_module_run() -> bool:
    """Return True if this process was started by ``python -m imagesync``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "imagesync.__main__"


def _is_first_on_path(prefix: str, active: str, base: str, environ: Mapping[str, str]) -> bool:
    """Return True if ``PATH`` has *prefix* before *active*, which must be on it, and before *base*."""
    path = [os.path.normpath(entry) for entry in environ.get("PATH", "").split(os.pathsep) if entry]

    def position(root: str) -> int | None:
        folders = {os.path.join(root, name) for name in ("bin", "Scripts")} if root else set()
        return next((index for index, entry in enumerate(path) if entry in folders), None)

    mine, others = position(prefix), [position(other) for other in (active, base) if other]
    if mine is None or (active and others[0] is None):
        return False
    return all(other is None or mine < other for other in others)


def no_environment(environ: Mapping[str, str], folders: tuple[str, ...]) -> ScanError:
    """Return the error that nothing but the environment of a tool, which imagesync runs in, was found.

    Parameters
    ----------
    environ
        Environment variables.
    folders
        The folders that were searched: the working folder, then its parents.
    """
    looked = "\n".join(f"  {line}" for line in _looked_for(environ, folders))
    return ScanError(
        f"No environment is active, and no project here has one. imagesync itself runs in {sys.prefix}, "
        f"which {tool_of(sys.prefix)} made for it alone. Looked for:\n{looked}",
        hint="\n".join((*_project_hints(folders), *_neighbour_hints(folders[0]), _ACTIVATE)),
    )


def _looked_for(environ: Mapping[str, str], folders: tuple[str, ...]) -> Iterator[str]:
    yield "VIRTUAL_ENV: not set"
    conda = environ.get("CONDA_PREFIX")
    yield f"CONDA_PREFIX: {f'{conda}, which has no Python' if conda else 'not set'}"
    if named := environ.get("UV_PROJECT_ENVIRONMENT"):
        yield f"UV_PROJECT_ENVIRONMENT: {named}, which is no environment of a project here"
    where = folders[0] if len(folders) == 1 else f"{folders[0]} and its parents up to {folders[-1]}"
    yield f".venv and .pixi/envs/default: not in {where}"


def _project_hints(folders: tuple[str, ...]) -> Iterator[str]:
    """Yield the commands that make or name the environment of the nearest project."""
    for folder in folders:
        by_file = [hint for _, files, _, hint in _TOOLS if _has_any(folder, files)]
        tables = _tool_tables(Path(folder, "pyproject.toml"))
        hints = by_file or [hint for _, _, table, hint in _TOOLS if table in tables]
        if hints:
            yield from hints
            return


def _has_any(folder: str, files: tuple[str, ...]) -> bool:
    return any(Path(folder, name).exists() for name in files)


def _tool_tables(path: Path) -> Mapping[str, Any]:
    try:
        tables = parse_toml(path.read_text("utf-8")).get("tool", {})
    except (OSError, ValueError):
        return {}
    if not isinstance(tables, dict):
        return {}
    # Many projects of other tools are built by hatchling, and configure it there.
    hatch = tables.get("hatch")
    is_managed = isinstance(hatch, dict) and "envs" in hatch
    return {name: table for name, table in tables.items() if name != "hatch" or is_managed}


def _neighbour_hints(folder: str) -> Iterator[str]:
    """Yield hints to environments in *folder* whose names no tool uses."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if is_isolated(os.path.join(folder, name)):
            yield f"There is one in {name}: --python {shlex.quote(name)}"
