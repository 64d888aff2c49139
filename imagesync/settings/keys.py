"""The keys of the settings, and the values that each one takes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from imagesync.core.credentials import redact
from imagesync.core.image_reference import is_reference, is_repository
from imagesync.core.names import Level, canonical_pattern, nearest
from imagesync.errors import UsageError

Kind = Literal["switch", "text", "size", "list", "requirements", "table", "path", "paths"]

# PEP 508 names, with * for several; conda's may begin with an underscore, too.
_NAME = re.compile(r"[A-Za-z0-9*_]([A-Za-z0-9._*-]*[A-Za-z0-9*])?")
# A channel's name, such as ``conda-forge`` or ``pytorch/label/test``, or a URL or path.
_CHANNEL = re.compile(r"[A-Za-z0-9._~/-][^\s,\"'<>]*")
# Decimal units, as in the output.
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>|kB|KB|MB|GB)")
_UNITS = {"": 1, "kB": 1_000, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_CUDA = re.compile(r"[0-9]+(\.[0-9]+){0,2}")
_TARGET_PYTHON = re.compile(r"3\.[0-9]{1,2}(\.[0-9]{1,2})?")
_TARGET_GLIBC = re.compile(r"2\.[0-9]{1,2}")
# Debian Policy 5.6.1 and 5.6.12, with an architecture, a version or a release as apt-get takes them. A dash
# at the end would tell apt-get to remove the package.
_APT = re.compile(
    r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9-]*[a-z0-9])?"
    r"(=[0-9][A-Za-z0-9.+:~-]*(?<!-)|/[a-z0-9.-]*[a-z0-9])?"
)


class Key(NamedTuple):
    """A key of ``[tool.imagesync]``.

    Parameters
    ----------
    name
        The key in a file, such as ``allow-inconsistent`` or ``add.pip``.
    field
        The field of :class:`~imagesync.settings.model.Settings`.
    accepts
        Checks a text value, or each entry of a list or table (``name=level``).
    expected
        A description of the valid values.
    word
        A text that a list may be instead, or may hold.
    """

    name: str
    field: str
    kind: Kind
    accepts: Callable[[str], bool] = bool
    expected: str = "text that isn't empty"
    word: str = ""

    @property
    def variable(self) -> str:
        """Return the environment variable, such as ``IMAGESYNC_ADD_PIP``."""
        return "IMAGESYNC_" + self.name.upper().replace("-", "_").replace(".", "_")

    @property
    def flag(self) -> str:
        """Return the command-line option, such as ``--add-pip``."""
        # The command line takes one value per option: --level, --channel.
        name = self.field.removesuffix("s") if self.field in ("levels", "channels") else self.field
        return "--" + name.replace("_", "-")


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _is_level(text: str) -> bool:
    name, _, level = text.partition("=")
    return _is_name(name) and level in {known.value for known in Level}


def parse_size(text: str) -> int | None:
    """Return a size in bytes, or ``None`` if *text* isn't a size.

    >>> parse_size("1.5 GB"), parse_size("800"), parse_size("much")
    (1500000000, 800, None)
    """
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(float(match["number"]) * _UNITS[match["unit"]])


def _one_of(*choices: str) -> Callable[[str], bool]:
    return lambda text: text in choices


def is_apt_package(text: str) -> bool:
    """Return True if *text* names a Debian package to install, in the syntax of apt-get.

    >>> is_apt_package("libgl1:amd64"), is_apt_package("git/bookworm-backports"), is_apt_package("git-")
    (True, True, False)
    """
    return _APT.fullmatch(text) is not None


_NAME_EXPECTED = "a package's name without a version, such as 'scikit-learn' or 'nvidia-*'"

KEYS = (
    Key("strict", "strict", "switch"),
    Key("profile", "profile", "text"),
    Key("ignore", "ignore", "list", _is_name, _NAME_EXPECTED),
    Key("only", "only", "list", _is_name, _NAME_EXPECTED),
    Key(
        "levels",
        "levels",
        "table",
        _is_level,
        f"a package's name and one of {', '.join(level.value for level in Level)}",
    ),
    Key("add.pip", "add_pip", "requirements"),
    Key("add.conda", "add_conda", "requirements"),
    Key(
        "modified",
        "modified",
        "text",
        _one_of("ship", "index", "error"),
        "'ship' (as they are here), 'index' (as their index or channel has them) or 'error'",
    ),
    Key("code", "code", "paths", expected="paths of folders and modules, such as ['.', 'lib/helper.py']"),
    Key(
        "code-max-size",
        "code_max_size",
        "size",
        lambda text: parse_size(text) is not None,
        "a size, such as '50 MB' or '1 GB'",
    ),
    Key("no-isolation", "no_isolation", "list", _is_name, _NAME_EXPECTED, word="auto"),
    Key("no-build", "no_build", "switch"),
    Key(
        "apt",
        "apt",
        "list",
        is_apt_package,
        "the name of a Debian package, such as 'libgomp1' or 'git=1:2.43.0-1ubuntu7'",
    ),
    Key("allow-inconsistent", "allow_inconsistent", "switch"),
    Key("base", "base", "text", is_reference, "an image reference, such as 'ubuntu:24.04'"),
    Key(
        "target-python",
        "target_python",
        "text",
        lambda text: _TARGET_PYTHON.fullmatch(text) is not None,
        "the base image's Python, such as '3.12' or '3.12.3'",
    ),
    Key(
        "target-glibc",
        "target_glibc",
        "text",
        lambda text: _TARGET_GLIBC.fullmatch(text) is not None,
        "the base image's C library, such as '2.39'",
    ),
    Key(
        "python",
        "python_source",
        "text",
        _one_of("auto", "base", "conda"),
        "'auto', 'base' (the base image's interpreter) or 'conda' (that of a conda channel)",
    ),
    Key(
        "channels",
        "channels",
        "list",
        lambda text: _CHANNEL.fullmatch(text) is not None,
        "conda channels, such as 'conda-forge' or 'https://conda.example.com/team'",
    ),
    Key(
        "conda-installer",
        "conda_installer",
        "text",
        _one_of("auto", "micromamba", "rattler"),
        "'auto', 'micromamba' or 'rattler'",
    ),
    Key("micromamba", "micromamba", "path", expected="the path of a micromamba executable"),
    Key(
        "cuda",
        "cuda",
        "text",
        lambda text: _CUDA.fullmatch(text) is not None,
        "a version of CUDA, such as '12.4'",
    ),
    Key(
        "repository",
        "repository",
        "text",
        is_repository,
        "an image's name without a tag, in lower case, such as 'registry.example.com/team/imagesync'",
    ),
    Key("push", "push", "switch"),
    Key("resolver", "resolver", "text", _one_of("uv", "pip-tools"), "'uv' or 'pip-tools'"),
    Key("solver", "solver", "text", _one_of("rattler", "conda-lock"), "'rattler' or 'conda-lock'"),
    Key("templates", "templates", "path", expected="a folder's path"),
    Key("cache-dir", "cache_dir", "path", expected="a folder's path"),
)


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
    """Return the error for an unknown key, with the most similar *known* key."""
    close = nearest(name, known)
    return UsageError(
        f"{label} isn't a setting of imagesync.",
        hint=f"Did you mean '{close}'?" if close else f"The keys are {', '.join(known)}.",
    )
