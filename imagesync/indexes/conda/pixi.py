"""pixi's own configuration: ``config.toml`` of system, user and workspace.

The source is pixi's documentation, *The configuration of Pixi itself*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagesync.indexes.documents import read_document, table, texts
from imagesync.indexes.folders import home_folder, native_config_folder, xdg_config_folder


@dataclass(frozen=True)
class PixiSettings:
    """What pixi is told about hosts.

    Parameters
    ----------
    mirrors
        The beginning of a URL to what may stand in its place, in the order to try.
    authentication_file
        A file with logins that goes before keyring and ``~/.rattler``; empty for none.
    pypi
        The section for Python packages.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    authentication_file: str = ""
    pypi: Mapping[str, Any] = field(default_factory=dict)


def workspace_of(prefix: Path) -> Path | None:
    """Return the workspace whose ``.pixi/envs`` has the environment *prefix*, if any.

    >>> str(workspace_of(Path("/farm/.pixi/envs/default")))
    '/farm'
    >>> workspace_of(Path("/farm/.venv"))
    """
    return prefix.parents[2] if prefix.parts[-3:-1] == (".pixi", "envs") else None


def pixi_settings(root: Path | None, environ: Mapping[str, str], platform: str) -> PixiSettings:
    """Return pixi's configuration for a workspace, or outside of any.

    Parameters
    ----------
    root
        The workspace's folder.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A file can't be read, or isn't TOML.
    """
    mirrors: dict[str, tuple[str, ...]] = {}
    authentication = ""
    pypi: dict[str, Any] = {}
    for path in _files(root, environ, platform):
        document = read_document(path)
        found = table(document, "mirrors")
        mirrors.update({source.rstrip("/"): texts(targets) for source, targets in found.items()})
        for key in ("authentication-override-file", "authentication_override_file"):
            authentication = str(document.get(key) or authentication)
        pypi |= table(document, "pypi-config")
    return PixiSettings(mirrors, authentication, pypi)


def _files(root: Path | None, environ: Mapping[str, str], platform: str) -> Iterator[Path]:
    """Yield the files that may hold configuration, the weakest first."""
    if platform == "win32":
        yield Path(environ.get("PROGRAMDATA") or "C:/ProgramData") / "pixi" / "config.toml"
    else:
        yield Path("/etc/pixi/config.toml")
    home = home_folder(environ, platform)
    folders = [
        xdg_config_folder(environ, platform) / "pixi",
        native_config_folder(environ, platform) / "pixi",
    ]
    folders.append(Path(environ.get("PIXI_HOME") or home / ".pixi"))
    for folder in dict.fromkeys(folders):
        yield folder / "config.toml"
    if root is not None:
        yield root / ".pixi" / "config.toml"
