"""Where poetry takes packages from: ``[[tool.poetry.source]]``, and the logins in ``auth.toml``.

The source is poetry's documentation, *Repositories*, and its ``utils/password_manager.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imagesync.core.names import canonical_name
from imagesync.core.user_folders import native_config_folder
from imagesync.indexes.configuration_files import read_document, table, tables
from imagesync.indexes.pypi.index_configuration import (
    PYPI,
    Binding,
    IndexConfiguration,
    IndexOptions,
    Project,
)
from imagesync.indexes.pypi.index_urls import with_login


def read_poetry(
    project: Project, environ: Mapping[str, str], *, platform: str = sys.platform
) -> IndexConfiguration:
    """Return poetry's configuration of package sources in *project*.

    Parameters
    ----------
    project
        The project.
    environ
        ``POETRY_*``, ``HOME`` and ``XDG_*`` count.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A file can't be read, or isn't TOML.
    """
    folder = Path(environ.get("POETRY_CONFIG_DIR") or native_config_folder(environ, platform) / "pypoetry")
    configured = {
        name: with_login(url, *login)
        for name, url, login in _sources(project.table, read_document(folder / "auth.toml"), environ)
    }
    priorities = {
        str(source.get("name", "")).lower(): str(source.get("priority", "primary")).lower()
        for source in tables(project.table.get("source", []))
    }
    primary = [url for name, url in configured.items() if priorities[name] in ("primary", "default")]
    if not primary and "pypi" not in configured:
        primary = [PYPI]
    # Before poetry 2 there were sources of the priority ``secondary``, too.
    last = [url for name, url in configured.items() if priorities[name] in ("supplemental", "secondary")]
    pool = tuple(dict.fromkeys([*primary, *last]))
    return IndexConfiguration(
        tool="poetry",
        source=f"[[tool.poetry.source]] in {project.root / 'pyproject.toml'}",
        # uv asks its default index last.
        index_url=pool[-1] if pool else None,
        extra_index_urls=pool[:-1],
        cert=environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or None,
        bound=tuple(_bindings(project, {"pypi": PYPI, **configured})),
        options={
            str(source["url"]): IndexOptions(keyring_services=(f"poetry-repository-{source['name']}",))
            for source in tables(project.table.get("source", []))
            if "url" in source and "name" in source
        },
        strategy="unsafe-first-match" if last else "unsafe-best-match",
    )


def _sources(
    poetry: Mapping[str, Any], logins: Mapping[str, Any], environ: Mapping[str, str]
) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Yield name, URL and login of each source, in their order."""
    for source in tables(poetry.get("source", [])):
        name = str(source.get("name", ""))
        url = PYPI if name.lower() == "pypi" else source.get("url")
        if not isinstance(url, str):
            continue
        stored = table(logins, "http-basic", name)
        key = f"POETRY_HTTP_BASIC_{name.upper().replace('-', '_').replace('.', '_')}"
        user, password = (
            environ.get(f"{key}_{part.upper()}") or str(stored.get(part) or "")
            for part in ("username", "password")
        )
        yield name.lower(), url, (user, password)


def _bindings(project: Project, urls: Mapping[str, str]) -> Iterator[Binding]:
    """Yield the packages of all groups whose dependency names a source."""
    groups = [project.table, *table(project.table, "group").values(), *_legacy(project.table)]
    found: dict[str, list[str]] = {}
    for group in groups:
        for name, dependency in table(group, "dependencies").items():
            for each in tables(dependency):
                if (url := urls.get(str(each.get("source", "")).lower())) is not None:
                    found.setdefault(canonical_name(name), []).append(url)
    for name, several in found.items():
        yield Binding(name, tuple(dict.fromkeys(several)))


def _legacy(poetry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"dependencies": table(poetry, "dev-dependencies")}]
