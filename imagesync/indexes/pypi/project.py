"""Which tool's project an environment belongs to: uv's, pixi's, poetry's or pdm's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from imagesync.indexes.configuration_files import read_document, table

Tool = Literal["uv", "pixi", "poetry", "pdm"]

_LOCK_FILES: tuple[tuple[str, Tool], ...] = (
    ("uv.lock", "uv"),
    ("poetry.lock", "poetry"),
    ("pdm.lock", "pdm"),
)
_MANIFESTS = ("pyproject.toml", "pixi.toml", "uv.toml")


@dataclass(frozen=True)
class Project:
    """A project of one tool.

    Parameters
    ----------
    root
        The folder of its manifest.
    pyproject
        The content of its ``pyproject.toml``; empty where there is none.
    """

    tool: Tool
    root: Path
    pyproject: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def table(self) -> dict[str, Any]:
        """Return ``[tool.<tool>]``."""
        return table(self.pyproject, "tool", self.tool)


def find_project(prefix: Path, *, cwd: Path, home: Path) -> Project | None:
    """Return the project that the environment at *prefix* belongs to, or ``None`` for an environment of pip.

    It is the one whose folder the environment lies in (``.venv``, ``.pixi/envs/<name>``), else the nearest
    one from *cwd* upwards; the search ends at a repository's root or at *home*. An environment of conda's
    that lies elsewhere isn't uv's: poetry and PDM install into the active one, uv makes its own.

    Raises
    ------
    ScanError
        A ``pyproject.toml`` isn't TOML, or can't be read.
    """
    if prefix.parts[-3:-1] == (".pixi", "envs"):
        root = prefix.parents[2]
        return Project("pixi", root, read_document(root / "pyproject.toml"))
    if _has_manifest(prefix.parent):
        return _project_in(prefix.parent, prefix)
    for folder in (cwd, *cwd.parents):
        if _has_manifest(folder) and (found := _project_in(folder, prefix)) is not None:
            return found
        if folder == home or (folder / ".git").exists():
            return None
    return None


def _has_manifest(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MANIFESTS)


def _project_in(folder: Path, prefix: Path) -> Project | None:
    document = read_document(folder / "pyproject.toml")
    tools = table(document, "tool")
    found: list[Tool] = [tool for name, tool in _LOCK_FILES if (folder / name).is_file()]
    if (folder / "uv.toml").is_file():
        found.append("uv")
    found += [tool for tool in ("uv", "poetry", "pdm") if tool in tools]
    if (prefix / "conda-meta").is_dir() and prefix.parent != folder:
        found = [tool for tool in found if tool != "uv"]
    return Project(found[0], folder, document) if found else None
