"""Find and read the files with settings: ``imagesync.toml`` and ``pyproject.toml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagesync.errors import UsageError


@dataclass(frozen=True)
class SettingsFile:
    """The settings of one file, unchecked.

    Parameters
    ----------
    prefix
        What precedes the keys in this file: ``tool.imagesync.``, or nothing.
    """

    path: Path
    table: Mapping[str, Any] = field(repr=False)
    prefix: str = ""


def find_files(cwd: Path, *, home: Path | None) -> tuple[SettingsFile, ...]:
    """Return the files with the settings of folder *cwd*, by increasing priority.

    They are in *cwd* or its nearest parent with settings; the search ends at the root of a repository or at
    *home*. A ``pyproject.toml`` without ``[tool.imagesync]`` doesn't count.

    Raises
    ------
    UsageError
        A file isn't TOML, or can't be read.
    """
    for folder in (cwd, *cwd.parents):
        if found := tuple(_files_in(folder)):
            return found
        if folder == home or (folder / ".git").exists():
            break
    return ()


def _files_in(folder: Path) -> Iterator[SettingsFile]:
    pyproject = folder / "pyproject.toml"
    # Most of these files don't mention imagesync, and parsing them takes time.
    if (content := _read(pyproject)) is not None and b"imagesync" in content:
        tool = _parse(pyproject, content).get("tool", {})
        if isinstance(tool, dict) and "imagesync" in tool:
            yield SettingsFile(pyproject, _table(pyproject, tool["imagesync"]), "tool.imagesync.")
    path = folder / "imagesync.toml"
    if (content := _read(path)) is not None:
        yield SettingsFile(path, _parse(path, content))


def _table(path: Path, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(
            f"'tool.imagesync' in {path} isn't a table.",
            hint="Write the settings below a line [tool.imagesync].",
        )
    return value


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise UsageError(
            f"The settings in {path} can't be read: {error.strerror}.",
            hint=f"See what {path} is: ls -l '{path}'",
        ) from error


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    from imagesync.core.toml import parse_toml

    try:
        return parse_toml(content.decode("utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{path} isn't valid TOML: {error}", hint="Correct that line and try again."
        ) from error
