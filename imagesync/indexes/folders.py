"""The folders in which tools keep their configuration and their data, by platform."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def home_folder(environ: Mapping[str, str], platform: str) -> Path:
    """Return the user's home.

    Parameters
    ----------
    platform
        In the terms of ``sys.platform``.
    """
    return Path(environ.get("USERPROFILE" if platform == "win32" else "HOME") or os.path.expanduser("~"))  # noqa: PTH111


def xdg_config_folder(environ: Mapping[str, str], platform: str) -> Path:
    """Return where tools that follow XDG on macOS as well keep the user's configuration."""
    if platform == "win32":
        return _roaming(environ, platform)
    return Path(environ.get("XDG_CONFIG_HOME") or home_folder(environ, platform) / ".config")


def native_config_folder(environ: Mapping[str, str], platform: str) -> Path:
    """Return where tools that follow the platform's own rules keep the user's configuration."""
    if platform == "darwin":
        return home_folder(environ, platform) / "Library" / "Application Support"
    return xdg_config_folder(environ, platform)


def system_config_folders(environ: Mapping[str, str], platform: str) -> tuple[Path, ...]:
    """Return where a machine's administrator keeps configuration, the first wins."""
    if platform == "win32":
        return (Path(environ.get("PROGRAMDATA") or "C:/ProgramData"),)
    named = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    return (*(Path(folder) for folder in named if folder), Path("/etc"))


def _roaming(environ: Mapping[str, str], platform: str) -> Path:
    return Path(environ.get("APPDATA") or home_folder(environ, platform) / "AppData" / "Roaming")
