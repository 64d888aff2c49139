"""pixi: its own ``config.toml``, and where it takes Python packages from (``pypi-options``, ``index``).

The source is pixi's documentation: *The configuration of Pixi itself* and *The Pixi Manifest*.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from imagesync.core.names import canonical_name
from imagesync.core.platforms import DEFAULT_PLATFORM, find_platform
from imagesync.core.user_folders import home_folder, native_config_folder, xdg_config_folder
from imagesync.indexes.configuration_files import read_document, table, tables, texts
from imagesync.indexes.pypi.index_configuration import Binding, IndexConfiguration, Project, Strategy
from imagesync.indexes.pypi.index_urls import location

_STRATEGIES = ("first-index", "unsafe-first-match", "unsafe-best-match")


def read_pixi(
    project: Project,
    environ: Mapping[str, str],
    *,
    prefix: Path,
    markers: Mapping[str, str] | None = None,
    platform: str = sys.platform,
) -> IndexConfiguration:
    """Return pixi's configuration of package indexes for the environment at *prefix*.

    Parameters
    ----------
    project
        The project.
    environ
        Environment variables.
    prefix
        Its folder has the name of the environment in the manifest, whose features apply.
    markers
        The marker values of the image.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A file can't be read, or isn't TOML.
    """
    manifest = project.root / "pixi.toml"
    document: Mapping[str, Any]
    if manifest.is_file():
        document = read_document(manifest)
    else:
        manifest, document = project.root / "pyproject.toml", project.table
    features = list(_features(document, prefix.name))
    options = [table(feature, "pypi-options") for feature in features]
    extra = (location(url, project.root) for each in options for url in texts(each.get("extra-index-urls")))
    strategy = next((each["index-strategy"] for each in options if "index-strategy" in each), None)
    settings = pixi_settings(project.root, environ, platform)
    return IndexConfiguration(
        tool="pixi",
        source=f"pypi-options in {manifest}",
        index_url=next((url for each in options for url in texts(each.get("index-url"))), None),
        extra_index_urls=tuple(dict.fromkeys(extra)),
        find_links=tuple(
            dict.fromkeys(entry for each in options for entry in _find_links(each, project.root))
        ),
        no_index=any(each.get("no-index") is True for each in options),
        cert=environ.get("SSL_CERT_FILE") or None,
        trusted_hosts=texts(settings.pypi.get("allow-insecure-host")),
        keyring_provider=str(settings.pypi.get("keyring-provider") or "disabled"),
        bound=tuple(_bindings(features, _subdir(markers))),
        strategy=cast("Strategy", strategy) if strategy in _STRATEGIES else "first-index",
    )


def _features(document: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the features of the environment *name* by precedence, the default one last."""
    environment = table(document, "environments").get(name, [])
    features: tuple[str, ...]
    if isinstance(environment, Mapping):
        features = texts(environment.get("features"))
        with_default = environment.get("no-default-feature") is not True
    else:
        features, with_default = texts(environment), True
    for feature in features:
        yield table(document, "feature", feature)
    if with_default:
        yield document
        yield {"pypi-options": table(document, "workspace", "pypi-options")}
        yield {"pypi-options": table(document, "project", "pypi-options")}


def _find_links(options: Mapping[str, Any], root: Path) -> Iterator[str]:
    for entry in tables(options.get("find-links", [])):
        if isinstance(entry.get("url"), str):
            yield entry["url"]
        elif isinstance(entry.get("path"), str):
            yield location(entry["path"], root)


def _subdir(markers: Mapping[str, str] | None) -> str:
    platform = find_platform(f"linux-{markers['platform_machine']}") if markers is not None else None
    return (platform or DEFAULT_PLATFORM).subdir


def _bindings(features: list[Mapping[str, Any]], subdir: str) -> Iterator[Binding]:
    seen = set()
    for feature in features:
        for scope in (table(feature, "target", subdir), table(feature, "target", "linux"), feature):
            for name, requirement in table(scope, "pypi-dependencies").items():
                package = canonical_name(name)
                if package in seen or not isinstance(requirement, Mapping):
                    continue
                if isinstance(requirement.get("index"), str):
                    seen.add(package)
                    yield Binding(package, (requirement["index"],))


@dataclass(frozen=True)
class PixiSettings:
    """pixi's own configuration.

    Parameters
    ----------
    mirrors
        The beginning of a URL to its replacements, in the order to try.
    authentication_file
        A file with logins that precedes keyring and ``~/.rattler``; empty for none.
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
    environ
        Environment variables.
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
    """Yield the paths of configuration files by ascending precedence."""
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
