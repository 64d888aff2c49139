"""Values of settings, read from files, environment variables and the command line."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from imagesync.core.credentials import redact
from imagesync.core.names import canonical_pattern, nearest
from imagesync.errors import UsageError
from imagesync.settings.keys import Key, Kind, parse_size

_SWITCH = "1 or 0 (true or false, yes or no)"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
# Between two requirements, but neither inside brackets ("dask[array,dataframe]") nor around the operators
# of a version ("torch >= 2, < 3").
_BETWEEN_REQUIREMENTS = re.compile(r"(?<![<>=!~,\s])[,\s]+(?=[A-Za-z0-9])(?![^\[\]]*\])")
_BETWEEN_NAMES = re.compile(r"[,\s]+")


class Place(NamedTuple):
    """Where a value is set.

    Parameters
    ----------
    label
        Its name in messages: ``--base``, ``IMAGESYNC_BASE``, ``'base' in /x/imagesync.toml``.
    folder
        The folder that paths are relative to.
    """

    label: str
    folder: Path


def read_value(key: Key, value: object, place: Place) -> object:
    """Return the *value* of a file or a flag, converted to the type of the setting.

    Raises
    ------
    UsageError
        It has the wrong type, or *key* doesn't take it.
    """
    return _READERS.get(key.kind, _accepted)(key, value, place)


def parse_text(key: Key, text: str, place: Place) -> object:
    """Return *text*, the value of an environment variable, converted to the type of the setting.

    Lists are separated by commas or spaces, paths as in ``PATH``, commands by line breaks, and tables are
    written ``name=level,name=level``. Words and ``name=value`` may be quoted as in a shell.

    Raises
    ------
    UsageError
        *key* doesn't take it.
    """
    parse = _PARSERS.get(key.kind)
    try:
        return read_value(key, text.strip() if parse is None else parse(text), place)
    except ValueError:
        raise _wrong(place, text, _SWITCH if key.kind == "switch" else key.expected) from None


def _parse_switch(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _parse_paths(text: str) -> list[str]:
    return [part for part in text.split(os.pathsep) if part.strip()]


def _parse_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _parse_requirements(text: str) -> list[str]:
    return _split(_BETWEEN_REQUIREMENTS, text)


def _parse_names(text: str) -> list[str]:
    return _split(_BETWEEN_NAMES, text)


_PARSERS: dict[Kind, Callable[[str], object]] = {
    "switch": _parse_switch,
    "requirements": _parse_requirements,
    "paths": _parse_paths,
    "list": _parse_names,
    "table": _parse_names,
    "pairs": shlex.split,
    "copies": shlex.split,
    "words": shlex.split,
    "lines": _parse_lines,
}


def _read_switch(key: Key, value: object, place: Place) -> bool:
    del key
    if isinstance(value, bool):
        return value
    raise _wrong(place, value, "true or false")


def _read_list(key: Key, value: object, place: Place) -> tuple[str, ...]:
    if key.word and value == key.word:
        value = (value,)
    if not isinstance(value, list | tuple):
        raise _wrong(place, value, "a list of texts")
    return tuple(_accepted(key, entry, place) for entry in value)


def _read_size(key: Key, value: object, place: Place) -> int | None:
    # A number without a unit is in bytes; True and False are integers, too.
    plain = isinstance(value, int) and not isinstance(value, bool)
    return parse_size(_accepted(key, str(value) if plain else value, place))


def _read_number(key: Key, value: object, place: Place) -> int:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return int(_accepted(key, str(value) if plain else value, place))


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    return [part for part in separator.split(text.strip(", \t\r\n")) if part]


def _read_table(key: Key, value: object, place: Place) -> dict[str, str]:
    if isinstance(value, Mapping):
        for name, level in value.items():
            _accepted(key, f"{name}={level}" if isinstance(level, str) else level, place)
        return {canonical_pattern(name): level for name, level in value.items()}
    if isinstance(value, list | tuple):
        pairs = [_accepted(key, entry, place).partition("=") for entry in value]
        return {canonical_pattern(name): level for name, _, level in pairs}
    raise _wrong(place, value, "a table of names and levels")


def _read_pairs(key: Key, value: object, place: Place) -> dict[str, str]:
    """Return values by name."""
    found = {}
    for name, content in _pairs(key, value, place):
        # OMP_NUM_THREADS = 1
        is_number = isinstance(content, int | float) and not isinstance(content, bool)
        text = str(content) if is_number else content
        if not isinstance(text, str):
            raise _wrong(place, {name: content}, key.expected)
        _accepted(key, f"{name}={text}", place)
        found[name] = text
    return found


def _read_copies(key: Key, value: object, place: Place) -> dict[Path, str]:
    """Return paths in the image by local path."""
    return {
        _path(key._replace(accepts=bool), name, place): _accepted(key, target, place)
        for name, target in _pairs(key, value, place)
    }


def _pairs(key: Key, value: object, place: Place) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        parts = [str(entry).partition("=") for entry in value]
        return [(name, content) for name, _, content in parts]
    raise _wrong(place, value, key.expected)


def _read_paths(key: Key, value: object, place: Place) -> tuple[Path, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(place, value, key.expected)
    return tuple(_path(key, entry, place) for entry in value)


def _path(key: Key, value: object, place: Place) -> Path:
    text = _accepted(key, str(value) if isinstance(value, Path) else value, place)
    return place.folder / Path(text).expanduser()


def _accepted(key: Key, value: object, place: Place) -> str:
    if not isinstance(value, str) or not key.accepts(value):
        raise _wrong(place, value, key.expected)
    return value


_READERS: dict[Kind, Callable[[Key, object, Place], object]] = {
    "switch": _read_switch,
    "table": _read_table,
    "list": _read_list,
    "requirements": _read_list,
    "words": _read_list,
    "lines": _read_list,
    "path": _path,
    "paths": _read_paths,
    "size": _read_size,
    "number": _read_number,
    "pairs": _read_pairs,
    "copies": _read_copies,
}


def _wrong(place: Place, value: object, expected: str) -> UsageError:
    shown = redact(f"'{value}'" if isinstance(value, str) else repr(value))
    return UsageError(f"{place.label} can't be {shown}.", hint=f"It takes {expected}.")


def unknown(label: str, name: str, known: list[str]) -> UsageError:
    """Return the error for an unknown key, with the most similar *known* key."""
    close = nearest(name, known)
    return UsageError(
        f"{label} isn't a setting of imagesync.",
        hint=f"Did you mean '{close}'?" if close else f"The keys are {', '.join(known)}.",
    )
