# Paths stay strings, as everywhere in a scan.
# ruff: noqa: PTH118, PTH208
"""No environment was found: where it was looked for, and the command that makes or names one."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imagesync.core.files import parse_toml
from imagesync.errors import ScanError
from imagesync.scan.discovery import is_isolated, tool_of

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


def no_environment(environ: Mapping[str, str], folders: tuple[str, ...]) -> ScanError:
    """Return the refusal to look at the environment of the tool that imagesync runs as.

    Parameters
    ----------
    folders
        Where the project's environment was looked for: the working folder, then its parents.
    """
    looked = "\n".join(f"  {line}" for line in _looked_for(environ, folders))
    return ScanError(
        f"No environment is active, and no project here has one. imagesync itself runs in {sys.prefix}, "
        f"which {tool_of(sys.prefix)} made for it alone. Looked for:\n{looked}",
        hint="\n".join((*_project_hints(folders), *_neighbour_hints(folders[0]), _ACTIVATE)),
    )


_ACTIVATE = "Activate an environment, or name its interpreter or folder: --python PATH"


def _looked_for(environ: Mapping[str, str], folders: tuple[str, ...]) -> Iterator[str]:
    yield "VIRTUAL_ENV: not set"
    conda = environ.get("CONDA_PREFIX")
    yield f"CONDA_PREFIX: {f'{conda}, which has no Python' if conda else 'not set'}"
    if named := environ.get("UV_PROJECT_ENVIRONMENT"):
        yield f"UV_PROJECT_ENVIRONMENT: {named}, which is no environment of a project here"
    where = folders[0] if len(folders) == 1 else f"{folders[0]} and its parents up to {folders[-1]}"
    yield f".venv and .pixi/envs/default: not in {where}"


def _project_hints(folders: tuple[str, ...]) -> Iterator[str]:
    """Yield what the tools of the nearest project say or do of its environment."""
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
    """Yield the environments in *folder* that are called otherwise than tools call them."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if is_isolated(os.path.join(folder, name)):
            yield f"There is one in {name}: --python {shlex.quote(name)}"
