"""The configuration of indexes for an environment, by the tool whose project it belongs to."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from imagesync.core.credentials import strip_credentials
from imagesync.core.user_folders import home_folder, system_config_folders, xdg_config_folder
from imagesync.errors import ScanError
from imagesync.indexes.configuration_files import project_folders, read_document, table
from imagesync.indexes.pypi.index_configuration import IndexConfiguration, Project, Tool
from imagesync.indexes.pypi.pip_configuration import has_option_as_user, read_pip_configuration

_UV_VARIABLES = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    *("UV_FIND_LINKS", "UV_CONFIG_FILE"),
)
_LOCK_FILES: tuple[tuple[str, Tool], ...] = (
    ("uv.lock", "uv"),
    ("poetry.lock", "poetry"),
    ("pdm.lock", "pdm"),
)
_MANIFESTS = ("pyproject.toml", "pixi.toml", "uv.toml")


def read_index_configuration(
    prefix: Path,
    environ: Mapping[str, str],
    *,
    cwd: Path | None = None,
    markers: Mapping[str, str] | None = None,
    platform: str = sys.platform,
) -> IndexConfiguration:
    """Return the configuration of indexes for the environment at *prefix*.

    In a project of uv, pixi, poetry or PDM it is that of the tool, and pip's is ignored, as by the tool; only
    ``PIP_NO_INDEX`` applies everywhere. Elsewhere it is pip's; if that names no index, uv's variables and the
    user's ``uv.toml`` apply.

    Parameters
    ----------
    prefix
        The prefix of the environment.
    environ
        Environment variables, with ``HOME`` and ``XDG_*``.
    cwd
        The folder where the search for the project begins; ``None`` for the current one.
    markers
        The target's marker values (PEP 508), which choose alternatives; without them all apply.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A configuration file can't be read, or has an invalid value.
    """
    project = find_project(prefix, cwd=cwd or Path.cwd(), home=home_folder(environ, platform))
    if project is None:
        return _checked(_of_pip(prefix, environ, platform))
    configured = _checked(_of_project(project, prefix, environ, markers, platform))
    if environ.get("PIP_NO_INDEX", "").lower() in ("", "0", "false", "no", "off"):
        return configured
    return replace(configured, no_index=True)


def _checked(configured: IndexConfiguration) -> IndexConfiguration:
    bound = (url for binding in configured.bound for url in binding.urls)
    urls = (configured.index_url or "", *configured.extra_index_urls, *configured.find_links, *bound)
    refused = next(filter(has_option_as_user, urls), None)
    if refused is not None:
        raise ScanError(
            f"The user name for {strip_credentials(refused)} begins with a dash, "
            "which keyring would take for an option",
            hint=f"Correct it in {configured.source}, or find out who wrote it there.",
        )
    return configured


def _of_project(
    project: Project,
    prefix: Path,
    environ: Mapping[str, str],
    markers: Mapping[str, str] | None,
    platform: str,
) -> IndexConfiguration:
    if project.tool == "uv":
        from imagesync.indexes.pypi.uv_configuration import read_uv

        return read_uv(project, environ, markers=markers, platform=platform)
    if project.tool == "pixi":
        from imagesync.indexes.pypi.pixi import read_pixi

        return read_pixi(project, environ, prefix=prefix, markers=markers, platform=platform)
    if project.tool == "poetry":
        from imagesync.indexes.pypi.poetry import read_poetry

        return read_poetry(project, environ, platform=platform)
    from imagesync.indexes.pypi.pdm import read_pdm

    return read_pdm(project, environ, platform=platform)


def _uv_is_configured(environ: Mapping[str, str], platform: str) -> bool:
    if any(environ.get(name) for name in _UV_VARIABLES):
        return True
    folders = (xdg_config_folder(environ, platform), *system_config_folders(environ, platform))
    return any((folder / "uv" / "uv.toml").is_file() for folder in folders)


def _of_pip(prefix: Path, environ: Mapping[str, str], platform: str) -> IndexConfiguration:
    configured = read_pip_configuration(prefix=prefix, environ=environ, platform=platform)
    if configured.index_url or configured.extra_index_urls or not _uv_is_configured(environ, platform):
        return configured
    from imagesync.indexes.pypi.uv_configuration import read_uv

    # A user who configured uv expects its index to be used.
    by_uv = read_uv(None, environ, platform=platform)
    return replace(
        configured,
        index_url=by_uv.index_url,
        extra_index_urls=by_uv.extra_index_urls,
        find_links=configured.find_links or by_uv.find_links,
    )


def find_project(prefix: Path, *, cwd: Path, home: Path) -> Project | None:
    """Return the project that the environment at *prefix* belongs to, or ``None`` for an environment of pip.

    It is the one whose folder contains the environment (``.venv``, ``.pixi/envs/<name>``), else the nearest
    one from *cwd* up to the project's root. A conda environment
    elsewhere isn't uv's: poetry and PDM install into the active one, uv makes its own.

    Raises
    ------
    ScanError
        A ``pyproject.toml`` isn't TOML, or can't be read.
    """
    if prefix.parts[-3:-1] == (".pixi", "envs"):
        root = prefix.parents[2]
        return Project("pixi", root, read_document(root / "pyproject.toml"))
    if _has_manifest(prefix.parent):
        return _project_in(prefix.parent, prefix)
    found = (_project_in(folder, prefix) for folder in project_folders(cwd, home) if _has_manifest(folder))
    return next((project for project in found if project is not None), None)


def _has_manifest(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MANIFESTS)


def _project_in(folder: Path, prefix: Path) -> Project | None:
    document = read_document(folder / "pyproject.toml")
    tools = table(document, "tool")
    found: list[Tool] = [tool for name, tool in _LOCK_FILES if (folder / name).is_file()]
    if (folder / "uv.toml").is_file():
        found.append("uv")
    found += [tool for tool in ("uv", "poetry", "pdm") if tool in tools]
    if (prefix / "conda-meta").is_dir() and prefix.parent != folder:
        found = [tool for tool in found if tool != "uv"]
    return Project(found[0], folder, document) if found else None
