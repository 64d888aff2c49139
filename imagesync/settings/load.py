"""Find the configuration files, and load settings by priority.

Flags come first, then ``IMAGESYNC_*``, ``imagesync.toml``, ``pyproject.toml`` and the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from imagesync.core.files import parse_toml
from imagesync.core.user_folders import home_folder
from imagesync.errors import UsageError
from imagesync.settings.keys import KEYS, Key
from imagesync.settings.model import Settings
from imagesync.settings.values import Place, parse_text, read_value, unknown

_PREFIX = "IMAGESYNC_"
_Setting = tuple[Key, object, str]


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


def find_files(cwd: Path, *, home: Path) -> tuple[SettingsFile, ...]:
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
    try:
        return parse_toml(content.decode("utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{path} isn't valid TOML: {error}", hint="Correct that line and try again."
        ) from error


def load_settings(*, cwd: Path, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Return the settings for folder *cwd*.

    A list replaces that of a lower priority; tables are merged by name.

    Parameters
    ----------
    environ
        Environment variables, of which ``IMAGESYNC_*`` are read unless they are empty.
    flags
        Values of the command line by field of :class:`Settings`; ``None`` is ignored. ``levels`` may be a
        mapping or pairs written ``name=level``.

    Raises
    ------
    UsageError
        A key doesn't exist, or doesn't take the value; the message says where it is set.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for file in find_files(cwd, home=home_folder(environ)):
        _merge(values, origins, _from_file(file))
    _merge(values, origins, _from_environ(environ, cwd))
    _merge(values, origins, _from_flags(flags, cwd))
    templates = values.get("templates")
    if templates is not None and not templates.is_dir():
        raise UsageError(
            f"The folder {templates}, which {origins['templates']} names, doesn't exist.",
            hint="Make it, or remove the setting: the shipped templates do without it.",
        )
    return Settings(**values, origins=origins)


def _merge(values: dict[str, Any], origins: dict[str, str], found: Iterable[_Setting]) -> None:
    for key, value, origin in found:
        if isinstance(value, Mapping):
            values[key.field] = {**values.get(key.field, {}), **value}
        else:
            values[key.field] = value
        origins[key.field] = origin


def _from_file(file: SettingsFile) -> Iterator[_Setting]:
    known = {key.name: key for key in KEYS}
    for name, value in _flattened(file.table, file):
        label = f"'{file.prefix}{name}' in {file.path}"
        key = known.get(name.replace("_", "-"))
        if key is None:
            raise unknown(label, name, list(known))
        yield key, read_value(key, value, Place(label, file.path.parent)), str(file.path)


def _flattened(table: Mapping[str, object], file: SettingsFile) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if name != "add":
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"add.{inner}", requirements) for inner, requirements in value.items())
        else:
            raise UsageError(
                f"'{file.prefix}add' in {file.path} isn't a table.", hint="Write add = { pip = ['lz4'] }."
            )


def _from_environ(environ: Mapping[str, str], cwd: Path) -> Iterator[_Setting]:
    known = {key.variable: key for key in KEYS}
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or not environ[variable].strip():
            continue
        if key := known.get(variable):
            yield key, parse_text(key, environ[variable], Place(variable, cwd)), variable


def _from_flags(flags: Mapping[str, object], cwd: Path) -> Iterator[_Setting]:
    known = {key.field: key for key in KEYS}
    for name, value in flags.items():
        if value is None:
            continue
        key = known.get(name)
        if key is None:
            raise unknown(f"The flag '{name}'", name, [each.name for each in fields(Settings)][:-1])
        yield key, read_value(key, value, Place(key.flag, cwd)), key.flag
