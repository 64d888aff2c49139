"""The user's home folder, and folders for configuration, by platform and environment variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def home_folder(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Return the user's home folder.

    Parameters
    ----------
    environ
        Environment variables.
    platform
        In the terms of ``sys.platform``.
    """
    return Path(environ.get("USERPROFILE" if platform == "win32" else "HOME") or os.path.expanduser("~"))  # noqa: PTH111


def xdg_config_folder(environ: Mapping[str, str], platform: str) -> Path:
    """Return the user's configuration folder of tools that follow XDG on macOS, too."""
    if platform == "win32":
        return _roaming(environ, platform)
    return Path(environ.get("XDG_CONFIG_HOME") or home_folder(environ, platform) / ".config")


def native_config_folder(environ: Mapping[str, str], platform: str) -> Path:
    """Return the user's configuration folder of tools that follow the platform's conventions."""
    if platform == "darwin":
        return home_folder(environ, platform) / "Library" / "Application Support"
    return xdg_config_folder(environ, platform)


def system_config_folders(environ: Mapping[str, str], platform: str) -> tuple[Path, ...]:
    """Return the configuration folders of the machine's administrator, by precedence."""
    if platform == "win32":
        return (Path(environ.get("PROGRAMDATA") or "C:/ProgramData"),)
    named = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    return (*(Path(folder) for folder in named if folder), Path("/etc"))


def _roaming(environ: Mapping[str, str], platform: str) -> Path:
    return Path(environ.get("APPDATA") or home_folder(environ, platform) / "AppData" / "Roaming")
