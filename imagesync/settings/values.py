"""Convert the values of files, variables and flags to the types of the settings, and check them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from imagesync.core.credentials import redact
from imagesync.core.names import canonical_pattern, nearest
from imagesync.errors import UsageError
from imagesync.settings.keys import Key, parse_size

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
    if key.kind == "switch":
        if isinstance(value, bool):
            return value
        raise _wrong(place, value, "true or false")
    if key.kind == "table":
        return _read_table(key, value, place)
    if key.kind in ("list", "requirements"):
        if key.word and value == key.word:
            value = (value,)
        if not isinstance(value, list | tuple):
            raise _wrong(place, value, "a list of texts")
        return tuple(_accepted(key, entry, place) for entry in value)
    if key.kind in ("path", "paths"):
        return _read_paths(key, value, place)
    if key.kind == "size":
        # A number without a unit is in bytes; True and False are integers, too.
        plain = isinstance(value, int) and not isinstance(value, bool)
        return parse_size(_accepted(key, str(value) if plain else value, place))
    return _accepted(key, value, place)


def parse_text(key: Key, text: str, place: Place) -> object:
    """Return *text*, the value of an environment variable, converted to the type of the setting.

    Lists are separated by commas or spaces, paths as in ``PATH``, and tables are written
    ``name=level,name=level``.

    Raises
    ------
    UsageError
        *key* doesn't take it.
    """
    if key.kind == "switch":
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise _wrong(place, text, "1 or 0 (true or false, yes or no)")
        return word in _TRUE
    if key.kind == "requirements":
        return read_value(key, _split(_BETWEEN_REQUIREMENTS, text), place)
    if key.kind == "paths":
        return read_value(key, [part for part in text.split(os.pathsep) if part.strip()], place)
    if key.kind in ("list", "table"):
        return read_value(key, _split(_BETWEEN_NAMES, text), place)
    return read_value(key, text.strip(), place)


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


def _read_paths(key: Key, value: object, place: Place) -> Path | tuple[Path, ...]:
    if key.kind == "path":
        return _path(key, value, place)
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


def _wrong(place: Place, value: object, expected: str) -> UsageError:
    shown = redact(f"'{value}'" if isinstance(value, str) else repr(value))
    return UsageError(f"{place.label} can't be {shown}.", hint=f"It takes {expected}.")


def unknown(label: str, name: str, known: list[str]) -> UsageError:
    """Return the error for an unknown key, with the *known* key that is nearest."""
    close = nearest(name, known)
    return UsageError(
        f"{label} has no meaning to imagesync.",
        hint=f"Did you mean '{close}'?" if close else f"The keys are {', '.join(known)}.",
    )
