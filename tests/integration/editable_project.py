"""An editable project for tests of builds, and what an index was asked for."""

from __future__ import annotations

from pathlib import Path

from tests.indexes import LocalIndex

_PYPROJECT = """
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
[project]
name = "{name}"
version = "1.0"
description = "{description}"
"""


def pyproject(name: str = "elder", *, description: str = "Berries") -> str:
    return _PYPROJECT.format(name=name, description=description)


def make_project(folder: Path, *, name: str = "elder") -> Path:
    """Make a project of one module that has the project's name."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(pyproject(name))
    (folder / f"{name}.py").write_text("berries = 1\n")
    return folder


def asked(index: LocalIndex) -> list[str]:
    """Return what the index was asked for, what back-ends need aside."""
    return [request.path for request in index.requests if "flit" not in request.path]
