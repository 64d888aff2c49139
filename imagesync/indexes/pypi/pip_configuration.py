# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH110
"""pip's configuration, read as pip reads it: files, then ``PIP_*``; pip itself isn't started.

The source is pip's ``_internal/configuration.py`` and ``cli/parser.py``; pip's documentation,
*Configuration*, describes the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagesync.core.user_folders import home_folder, xdg_config_folder
from imagesync.errors import ScanError
from imagesync.indexes.pypi.index_configuration import IndexConfiguration

# A command's section overrides [global], in any file. Downloads are for an installation, so [install]
# overrides [download].
_SECTIONS = ("global", "download", "install")
_TRUE = frozenset({"y", "yes", "t", "true", "on", "1"})
_FALSE = frozenset({"n", "no", "f", "false", "off", "0"})


def read_pip_configuration(
    *, prefix: Path, environ: Mapping[str, str], platform: str = sys.platform
) -> IndexConfiguration:
    """Return the configuration of indexes that pip has in the environment at *prefix*.

    Parameters
    ----------
    prefix
        The environment; its ``pip.conf`` is read.
    environ
        Environment variables, with ``HOME`` and ``XDG_*``.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A configuration file can't be read, or a value in it means nothing. pip stops there as well.
    """
    values = _Values()
    for path in _files(prefix, environ, platform):
        _read_file(path, values)
    merged = values.merged()
    for key, value in environ.items():
        option = key[len("PIP_") :].lower().replace("_", "-")
        if key.startswith("PIP_") and value:
            merged[option] = (value, key)
    return _configuration(merged)


@dataclass
class _Values:
    """Section to option to value and origin; later files override earlier ones."""

    sections: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)

    def merged(self) -> dict[str, tuple[str, str]]:
        """Return each option's value and origin; empty values count as not set."""
        merged: dict[str, tuple[str, str]] = {}
        for section in _SECTIONS:
            merged.update({key: item for key, item in self.sections.get(section, {}).items() if item[0]})
        return merged


def _files(prefix: Path, environ: Mapping[str, str], platform: str) -> Iterator[Path]:
    """Yield pip's existing configuration files by ascending precedence."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    basename = "pip.ini" if platform == "win32" else "pip.conf"
    places = [*_global_folders(environ, platform)]
    if not (named and os.path.exists(named)):
        places += _user_folders(environ, platform)
    candidates = [folder / basename for folder in (*places, prefix)]
    if named:
        candidates.append(Path(named))
    yield from (path for path in candidates if path.is_file())


def _global_folders(environ: Mapping[str, str], platform: str) -> list[Path]:
    if platform == "win32":
        return [Path(environ.get("ProgramData") or "C:\\ProgramData") / "pip"]
    if platform == "darwin":
        return [Path("/Library/Application Support/pip")]
    folders = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    return [*(Path(folder) / "pip" for folder in folders.split(os.pathsep) if folder), Path("/etc")]


def _user_folders(environ: Mapping[str, str], platform: str) -> list[Path]:
    home = home_folder(environ, platform)
    if platform == "darwin":
        library = home / "Library" / "Application Support" / "pip"
        return [home / ".pip", library if library.is_dir() else home / ".config" / "pip"]
    own = home / ("pip" if platform == "win32" else ".pip")
    return [own, xdg_config_folder(environ, platform) / "pip"]


def _read_file(path: Path, values: _Values) -> None:
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except OSError as error:
        raise ScanError(f"{path} can't be read: {error.strerror}", hint="Check its permissions.") from None
    except (UnicodeDecodeError, configparser.Error) as error:
        # The parser's message may quote the line, and the line may hold a password.
        where = getattr(error, "lineno", None)
        raise ScanError(
            f"{path} isn't a valid pip configuration file" + (f" (line {where})" if where else ""),
            hint="See what pip says of it: pip config debug",
        ) from None
    for section in parser.sections():
        options = values.sections.setdefault(section, {})
        for key, value in parser.items(section):
            options[key.lower().replace("_", "-").removeprefix("--")] = (value, str(path))


def _configuration(merged: Mapping[str, tuple[str, str]]) -> IndexConfiguration:
    def text(option: str) -> str | None:
        return merged[option][0].strip() or None if option in merged else None

    def words(option: str) -> tuple[str, ...]:
        return tuple((text(option) or "").split())

    for option in ("index-url", "pypi-url", "extra-index-url", "find-links"):
        if any(map(has_option_as_user, words(option))):
            raise ScanError(
                f"{option} in {merged[option][1]} has a user name that begins with a dash, which keyring "
                "would take for an option",
                hint="Correct the URL, or find out who wrote it there.",
            )
    return IndexConfiguration(
        index_url=text("index-url") or text("pypi-url"),
        extra_index_urls=words("extra-index-url"),
        find_links=words("find-links"),
        no_index=_boolean(merged, "no-index"),
        cert=text("cert"),
        client_cert=text("client-cert"),
        trusted_hosts=words("trusted-host"),
        proxy=text("proxy"),
        timeout=_seconds(merged),
        keyring_provider=text("keyring-provider"),
        build_constraints=tuple(dict.fromkeys(words("constraint") + words("build-constraint"))),
    )


def has_option_as_user(url: str) -> bool:
    """Return True if the user name in *url* would reach keyring as an option."""
    from urllib.parse import unquote, urlsplit

    return "@" in url and unquote(urlsplit(url).username or "").startswith("-")


def _boolean(merged: Mapping[str, tuple[str, str]], option: str) -> bool:
    value, origin = merged.get(option, ("no", ""))
    lowered = value.strip().lower()
    if lowered not in _TRUE | _FALSE:
        raise ScanError(f"{option} in {origin} is neither true nor false", hint="Write true or false.")
    return lowered in _TRUE


def _seconds(merged: Mapping[str, tuple[str, str]]) -> float | None:
    # PIP_TIMEOUT and PIP_DEFAULT_TIMEOUT are the same option.
    for option in ("timeout", "default-timeout"):
        if option in merged:
            value, origin = merged[option]
            try:
                return float(value)
            except ValueError:
                raise ScanError(
                    f"{option} in {origin} isn't a number", hint="Write a number of seconds."
                ) from None
    return None
