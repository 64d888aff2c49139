# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH110, PTH112, PTH113, PTH118, PTH120, PTH208
"""conda's configuration files: their paths, and their content."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from imagesync.core.files import read_bytes
from imagesync.errors import ScanError

_WORD = rb"(?P<value>(?!(?i:null)\b)[A-Za-z/$][A-Za-z0-9_./$@+-]*(?::(?://)?[A-Za-z0-9_./$@+-]+)*)"
_END = rb"[ \t]*(?:[ \t]#.*)?"
_COMMENT = re.compile(rb"[ \t]*#|---[ \t]*$")
_KEY = re.compile(rb"(?P<key>[a-z][a-z0-9_]*):" + _END)
_SCALAR = re.compile(rb"(?P<key>[a-z][a-z0-9_]*):[ \t]+" + _WORD + _END)
_ITEM = re.compile(rb" *-[ ]+" + _WORD + _END)


def condarc_files(
    prefix: str, root: str, home: str, environ: Mapping[str, str], platform: str
) -> Iterator[str]:
    """Yield the configuration files that exist, the weakest first.

    Parameters
    ----------
    prefix, root
        The environment, and the installation that it belongs to (empty if there is none).
    home
        The user's home folder.
    environ
        Environment variables.
    platform
        In the terms of ``sys.platform``.
    """
    system = ["C:/ProgramData/conda"] if platform == "win32" else ["/etc/conda", "/var/lib/conda"]
    folders = [*system, root]
    if environ.get("XDG_CONFIG_HOME"):
        folders.append(os.path.join(environ["XDG_CONFIG_HOME"], "conda"))
    folders += [os.path.join(home, ".config", "conda"), os.path.join(home, ".conda")]
    seen = set()
    for path in (
        *(path for folder in folders if folder for path in _in_folder(folder)),
        os.path.join(home, ".condarc"),
        os.path.join(home, ".mambarc"),
        *_in_folder(prefix),
        environ.get("CONDARC", ""),
        environ.get("MAMBARC", ""),
    ):
        if path and path not in seen and os.path.isfile(path):
            seen.add(path)
            yield path


def _in_folder(folder: str) -> Iterator[str]:
    yield os.path.join(folder, ".condarc")
    yield os.path.join(folder, "condarc")
    parts = os.path.join(folder, "condarc.d")
    if os.path.isdir(parts):
        for name in sorted(os.listdir(parts)):
            if name.endswith((".yml", ".yaml")):
                yield os.path.join(parts, name)
    yield os.path.join(folder, ".mambarc")


def root_prefix(prefix: str, environ: Mapping[str, str]) -> str:
    """Return the installation of conda or mamba that *prefix* belongs to; empty if there is none."""
    for variable in ("CONDA_ROOT", "CONDA_ROOT_PREFIX", "MAMBA_ROOT_PREFIX"):
        if environ.get(variable):
            return environ[variable]
    executable = environ.get("CONDA_EXE", "")
    if executable and os.path.isfile(executable):
        return os.path.dirname(os.path.dirname(executable))
    folder, place = os.path.split(os.path.dirname(prefix))
    if place == "envs" and os.path.isdir(os.path.join(folder, "conda-meta")):
        return folder
    return prefix if os.path.exists(os.path.join(prefix, "condabin")) else ""


def package_caches(
    configured: tuple[str, ...], root: str, home: str, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the existing package caches of conda, mamba, micromamba and rattler."""
    expanded = [os.path.join(home, path[2:]) if path.startswith("~/") else path for path in configured]
    if not expanded:
        expanded = [os.path.join(root, "pkgs")] if root else []
        expanded += [os.path.join(home, *place) for place in ((".conda", "pkgs"), (".mamba", "pkgs"))]
    rattler = environ.get("RATTLER_CACHE_DIR") or os.path.join(
        environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "rattler", "cache"
    )
    candidates = (*expanded, os.path.join(rattler, "pkgs"))
    return tuple(dict.fromkeys(path for path in candidates if os.path.isdir(path)))


def read_condarc(path: str) -> dict[str, Any]:
    """Return the settings in a configuration file.

    Raises
    ------
    ScanError
        It can't be read, or isn't a mapping in YAML.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ScanError(f"{path} can't be read: {error.strerror}", hint="Check its permissions.") from None
    simple = _simple(data)
    if simple is not None:
        return simple
    import yaml

    try:
        document = yaml.load(data.decode("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    # A number of 5,000 digits or the 99th of a month is a ValueError.
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        # The parser's message quotes the line, and the line may hold a token.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ScanError(
            f"{path} isn't a valid conda configuration file{where}",
            hint="See what conda says of it: conda config --show-sources",
        ) from None
    if document is not None and not isinstance(document, dict):
        raise ScanError(
            f"{path} isn't a conda configuration file: it holds no settings",
            hint="See what conda says of it: conda config --show-sources",
        )
    return document or {}


def _simple(data: bytes) -> dict[str, Any] | None:
    """Return the settings of a file of plain words and lists of them, as most are; ``None`` for other files.

    Importing a YAML parser takes longer than reading all else of a conda environment. Anything but plain
    words (quotes, flow style, nesting, anchors, non-ASCII) is left to the parser.
    """
    settings: dict[str, Any] = {}
    key = ""
    for line in data.splitlines():
        if not line.strip() or _COMMENT.match(line):
            continue
        if match := _SCALAR.fullmatch(line):
            settings[match["key"].decode()] = match["value"].decode()
            key = ""
        elif match := _KEY.fullmatch(line):
            key = match["key"].decode()
            settings[key] = []
        elif key and (match := _ITEM.fullmatch(line)):
            settings[key].append(match["value"].decode())
        else:
            return None
    # A key without a value is null in YAML, and sets nothing.
    return settings
