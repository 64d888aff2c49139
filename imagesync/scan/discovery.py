# Paths stay strings, as everywhere in a scan.
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH118, PTH119, PTH120
"""Which environment is looked at, and how it was found."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from imagesync.core.files import read_bytes
from imagesync.errors import ScanError, UsageError
from imagesync.indexes.configuration_files import home_folder, project_folders
from imagesync.scan.environment import Interpreter
from imagesync.scan.interpreter import HINT, PLACES, interpreter_of, named_interpreter

_PIXI = ".pixi/envs/default"
_UV_CACHE = re.compile(r"(archive|builds|environments)-v[0-9]+")
_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy"}


@dataclass(frozen=True)
class FoundEnvironment:
    """The environment that is looked at.

    Parameters
    ----------
    path
        The interpreter to ask, or the folder to read.
    origin
        How it was found, in a few words.
    files_only
        Whether *path* is a folder in which nothing is run.
    warnings
        What a user should know about the choice.
    """

    path: Path
    origin: str
    files_only: bool = False
    warnings: tuple[str, ...] = ()

    def describe(self, interpreter: Interpreter) -> str:
        """Return one line that names the environment; *interpreter* is what it turned out to have."""
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
        raise ScanError("the running interpreter doesn't know its own path", hint=HINT)
    return FoundEnvironment(Path(sys.executable), "the running interpreter")


def discover(
    *, python: Path | None = None, prefix: Path | None = None, environ: Mapping[str, str], cwd: Path
) -> FoundEnvironment:
    """Return the environment that a command looks at: the one that is named, or the first that is found.

    The order: what is named, ``VIRTUAL_ENV``, ``CONDA_PREFIX`` unless it is conda's base, the project's
    environment, conda's base, and that of imagesync itself unless it is a tool's.

    Parameters
    ----------
    python, prefix
        As for :func:`locate`.
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
    home = home_folder(environ, sys.platform)
    folders = tuple(map(str, project_folders(Path(os.path.abspath(cwd)), home)))
    found = next(_candidates(environ, folders), None)
    if found is None:
        from imagesync.scan.missing_environment import no_environment

        raise no_environment(environ, folders)
    return found


def _candidates(environ: Mapping[str, str], folders: tuple[str, ...]) -> Iterator[FoundEnvironment]:
    """Yield the environments that may be meant, first the one that counts.

    imagesync's own environment counts only where it isn't a tool's. ``python -m imagesync`` names it, as
    ``python -m pip`` does; and so does ``PATH``, where it has its folder before those of what is active, as
    that of a notebook's kernel or of a container does.
    """
    own = None if tool_of(sys.prefix) else locate(environ=environ)
    virtual = environ.get("VIRTUAL_ENV", "")
    conda = environ.get("CONDA_PREFIX", "")
    base = conda if conda and is_conda_base(conda, environ) else ""
    if own is not None and _is_module_run():
        yield replace(own, origin="python -m imagesync")
    if own is not None and is_isolated(sys.prefix) and not is_conda_base(sys.prefix, environ):
        active = virtual or ("" if base else conda)
        is_active = bool(active) and _is_same(active, sys.prefix)
        if not is_active and _is_first_on_path(sys.prefix, active, base, environ):
            yield replace(own, origin="imagesync is installed in it, and it is on PATH")
    project = next(_project_environments(environ, folders), None)
    if virtual:
        yield _active("VIRTUAL_ENV", extended(virtual), project)
    # One without a Python can't be meant where the project has one.
    if conda and not base and (project is None or has_interpreter(conda)):
        yield _active("CONDA_PREFIX", conda, project)
    if project is not None:
        interpreter = interpreter_of(project.folder, project.folder)
        yield FoundEnvironment(Path(interpreter), project.origin)
    if base and has_interpreter(base):
        yield FoundEnvironment(Path(interpreter_of(base, base)), "CONDA_PREFIX, conda's base")
    if own is not None:
        yield own


def _active(variable: str, folder: str, project: _ProjectEnvironment | None) -> FoundEnvironment:
    """Return the environment that *variable* names, with a warning where the project has another one."""
    if not os.path.isdir(folder):
        raise ScanError(
            f"{variable} names {folder}, which isn't a folder (any more)",
            hint=f"Activate an environment that exists, or unset {variable}. {HINT}",
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


def _is_same(folder: str, other: str) -> bool:
    return os.path.realpath(folder) == os.path.realpath(other)


@dataclass(frozen=True)
class _ProjectEnvironment:
    """An environment that a project's own tool has made.

    Parameters
    ----------
    root
        The folder of the project.
    """

    folder: str
    origin: str
    root: str

    def has(self, folder: str) -> bool:
        """Return whether *folder* is this environment, or another one of a pixi project."""
        pixi = os.path.join(self.root, ".pixi", "envs")
        return _is_same(folder, self.folder) or _is_same(os.path.dirname(os.path.abspath(folder)), pixi)


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
            yield _ProjectEnvironment(path, "the project's .venv", folder)
        path = os.path.join(folder, *_PIXI.split("/"))
        if has_interpreter(path):
            yield _ProjectEnvironment(path, f"the project's {_PIXI}", folder)


def is_environment(folder: str) -> bool:
    """Return whether *folder* is an environment of Python's, even one whose interpreter is gone."""
    return os.path.isfile(os.path.join(folder, "pyvenv.cfg")) or has_interpreter(folder)


def has_interpreter(folder: str) -> bool:
    """Return whether an interpreter lies in *folder*, even as a link that leads nowhere."""
    return any(os.path.lexists(os.path.join(folder, *place.split("/"))) for place in PLACES)


def is_conda_base(prefix: str, environ: Mapping[str, str]) -> bool:
    """Return whether *prefix* is the environment that conda itself lives in.

    Every shell of a user of miniconda has activated it, so it says nothing about what is worked in. The
    variables are those of the activation scripts of conda and micromamba; pixi has no such environment.
    """
    if os.path.exists(os.path.join(prefix, "conda-meta", "pixi")):
        return False
    executable = environ.get("CONDA_EXE", "")
    roots = [environ.get("_CONDA_ROOT", ""), environ.get("MAMBA_ROOT_PREFIX", "")]
    roots.append(os.path.dirname(os.path.dirname(executable)))
    if any(root and _is_same(prefix, root) for root in roots):
        return True
    if environ.get("CONDA_DEFAULT_ENV") in ("base", "root") and environ.get("CONDA_PREFIX") == prefix:
        return True
    in_envs = os.path.basename(os.path.dirname(os.path.abspath(prefix))) == "envs"
    return not in_envs and os.path.isdir(os.path.join(prefix, "condabin"))


def tool_of(prefix: str) -> str:
    """Return which tool has made the environment at *prefix* for an application alone, or nothing.

    Nobody works in such an environment. uv and pipx leave a receipt in it; what uv makes for a single run
    lies in its cache.
    """
    for name, tool in (("uv-receipt.toml", "uv tool"), ("pipx_metadata.json", "pipx")):
        if os.path.exists(os.path.join(prefix, name)):
            return tool
    bucket = os.path.dirname(os.path.realpath(prefix))
    cached = _UV_CACHE.fullmatch(os.path.basename(bucket)) is not None
    return "uvx" if cached and os.path.exists(os.path.join(os.path.dirname(bucket), "CACHEDIR.TAG")) else ""


def extended(prefix: str) -> str:
    """Return the environment that *prefix* was laid over by ``uv run --with``, else *prefix* itself."""
    return read_pyvenv_cfg(prefix).get("extends-environment") or prefix


def read_pyvenv_cfg(root: str) -> dict[str, str]:
    """Return the keys and values of ``pyvenv.cfg`` (PEP 405); none where there is no such file."""
    try:
        text = read_bytes(os.path.join(root, "pyvenv.cfg")).decode("utf-8", "replace")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, separator, value in pairs if separator}


def _is_module_run() -> bool:
    """Return whether this process was started by ``python -m imagesync``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "imagesync.__main__"


def is_isolated(prefix: str) -> bool:
    """Return whether *prefix* is an environment, and not an installation that others are made from."""
    return os.path.isfile(os.path.join(prefix, "pyvenv.cfg")) or os.path.isdir(
        os.path.join(prefix, "conda-meta")
    )


def _is_first_on_path(own: str, active: str, base: str, environ: Mapping[str, str]) -> bool:
    """Return whether ``PATH`` has *own* before *active*, which must be on it, and before *base*."""
    path = [os.path.normpath(entry) for entry in environ.get("PATH", "").split(os.pathsep) if entry]

    def position(prefix: str) -> int | None:
        folders = {os.path.join(prefix, name) for name in ("bin", "Scripts")} if prefix else set()
        return next((index for index, entry in enumerate(path) if entry in folders), None)

    mine, others = position(own), [position(prefix) for prefix in (active, base) if prefix]
    if mine is None or (active and others[0] is None):
        return False
    return all(other is None or mine < other for other in others)
