"""Configuration files of other tools: the folders of a project, and TOML of any shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagesync.errors import ScanError

_PROJECT_FILES = ("pyproject.toml", "uv.lock", "uv.toml", "pixi.toml", "setup.py", "setup.cfg", "Pipfile")


def read_document(path: Path) -> dict[str, Any]:
    """Return the TOML document in *path*; empty if there is no such file.

    Raises
    ------
    ScanError
        It isn't TOML, or can't be read.
    """
    from imagesync.core.files import parse_toml

    try:
        return parse_toml(path.read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except OSError as error:
        raise ScanError(f"{path} can't be read: {error.strerror}", hint="Check its permissions.") from None
    except ValueError as error:
        # The parser quotes nothing of the line, which may hold a password.
        raise ScanError(
            f"{path} isn't valid TOML: {error}", hint="Correct that line and try again."
        ) from None


def table(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return a table inside *document*; empty if there is none.

    >>> table({"tool": {"uv": {"index": []}}}, "tool", "uv")
    {'index': []}
    >>> table({"tool": 1}, "tool", "uv")
    {}
    """
    found: object = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def tables(value: object) -> list[dict[str, Any]]:
    """Return the tables of an array of tables, or a single table."""
    items = value if isinstance(value, list) else [value]
    return [dict(item) for item in items if isinstance(item, Mapping)]


def texts(value: object) -> tuple[str, ...]:
    """Return the strings of a list, or a single string."""
    items = value if isinstance(value, list) else [value]
    return tuple(item for item in items if isinstance(item, str) and item)


def project_folders(cwd: Path, home: Path) -> tuple[Path, ...]:
    """Return *cwd* and its parents up to the project's root.

    That is the root of the repository, else the uppermost folder with a project's file. The user's *home* and
    the folders above it belong to no project, unless *cwd* is one of them.
    """
    folders = [cwd]
    while folders[-1] != home and folders[-1].parent not in (folders[-1], home):
        folders.append(folders[-1].parent)
    root = 0
    for index, folder in enumerate(folders):
        if (folder / ".git").exists():
            root = index
            break
        if any((folder / name).exists() for name in _PROJECT_FILES):
            root = index
    return tuple(folders[: root + 1])
