"""PDM's package sources: ``[[tool.pdm.source]]``, and ``pdm config``.

The source is PDM's documentation, *Configure the project*, and its ``project/core.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesync.core.names import canonical_name
from imagesync.core.user_folders import native_config_folder, system_config_folders
from imagesync.indexes.configuration_files import read_document, table, tables, texts
from imagesync.indexes.pypi.index_configuration import (
    PYPI,
    Binding,
    IndexConfiguration,
    IndexOptions,
    Project,
)
from imagesync.indexes.pypi.index_urls import expand_login, expand_variables, location, with_login

_LOGIN = ("username", "password")


@dataclass(frozen=True, repr=False)
class _Source:
    name: str
    url: str
    flat: bool
    verify: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]


def read_pdm(
    project: Project, environ: Mapping[str, str], *, platform: str = sys.platform
) -> IndexConfiguration:
    """Return PDM's configuration of package sources in *project*.

    Parameters
    ----------
    project
        The project.
    environ
        ``PDM_*``, ``HOME``, ``XDG_*``, and the variables that a source's login names.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A file can't be read, or isn't TOML.
    """
    from urllib.parse import urlsplit

    from imagesync.core.credentials import strip_credentials

    sources = list(_sources(project, environ, platform))
    pool = tuple(dict.fromkeys(source.url for source in sources if not source.flat))
    in_order = table(project.table, "resolution").get("respect-source-order") is True
    return IndexConfiguration(
        tool="pdm",
        source=f"[[tool.pdm.source]] in {project.root / 'pyproject.toml'} and `pdm config`",
        # uv asks its default index last.
        index_url=pool[-1] if pool else None,
        extra_index_urls=pool[:-1],
        find_links=tuple(source.url for source in sources if source.flat),
        cert=environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or None,
        trusted_hosts=tuple(
            host for s in sources if not s.verify and (host := urlsplit(strip_credentials(s.url)).netloc)
        ),
        bound=tuple(_bindings(sources)),
        options={
            strip_credentials(source.url): IndexOptions(keyring_services=(f"pdm-pypi-{source.name}",))
            for source in sources
        },
        strategy="unsafe-first-match" if in_order else "unsafe-best-match",
    )


def _sources(project: Project, environ: Mapping[str, str], platform: str) -> Iterator[_Source]:
    """Yield the sources in their order: PyPI first unless the project has a source of its name."""
    stored = [table(document, "pypi") for document in _configuration(project, environ, platform)]
    listed = tables(project.table.get("source", []))
    names = [str(source.get("name", "")) for source in listed]
    by_name: dict[str, dict[str, Any]] = dict(zip(names, listed, strict=True))
    further: dict[str, dict[str, Any]] = {}
    for document in stored:
        for name, value in document.items():
            if isinstance(value, Mapping):
                known = by_name.get(name) or further.setdefault(name, {})
                known.update({key: item for key, item in value.items() if key not in known})
    ignored = any(document.get("ignore_stored_index") is True for document in stored)
    if not ignored:
        by_name.update(further)
    default = {"url": environ.get("PDMPYPI_URL") or PYPI}
    for document in reversed(stored):
        default |= {key: item for key, item in document.items() if not isinstance(item, Mapping)}
    default |= {key: value for key in _LOGIN if (value := environ.get(f"PDMPYPI_{key.upper()}"))}
    if "pypi" in by_name:
        by_name["pypi"] = {**default, **by_name["pypi"]}
    elif not ignored:
        by_name = {"pypi": default, **by_name}
    for name, source in by_name.items():
        if isinstance(source.get("url"), str):
            yield _source(name, source, project.root, environ)


def _configuration(project: Project, environ: Mapping[str, str], platform: str) -> list[dict[str, Any]]:
    """Return the documents that ``pdm config`` writes, by precedence."""
    home = environ.get("PDM_CONFIG_FILE")
    user = Path(home) if home else native_config_folder(environ, platform) / "pdm" / "config.toml"
    site = system_config_folders(environ, platform)[0] / "pdm" / "config.toml"
    return [read_document(path) for path in (project.root / "pdm.toml", user, site)]


def _source(name: str, source: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> _Source:
    url = expand_login(str(source["url"]), environ).replace("file:///${PROJECT_ROOT}", root.as_uri())
    user, password = (expand_variables(str(source.get(key) or ""), environ) for key in _LOGIN)
    return _Source(
        name=name,
        url=with_login(location(url, root), user, password),
        flat=source.get("type") == "find_links",
        verify=source.get("verify_ssl") is not False,
        include=tuple(map(_pattern, texts(source.get("include_packages")))),
        exclude=tuple(map(_pattern, texts(source.get("exclude_packages")))),
    )


def _pattern(pattern: str) -> str:
    return (
        canonical_name(pattern) if pattern.replace("*", "").replace("?", "") == pattern else pattern.lower()
    )


def _bindings(sources: Sequence[_Source]) -> Iterator[Binding]:
    """Yield the bindings that ``include_packages`` and ``exclude_packages`` make."""
    indexes = [source for source in sources if not source.flat]
    included: dict[str, list[str]] = {}
    for source in indexes:
        for pattern in source.include:
            included.setdefault(pattern, []).append(source.url)
    for pattern, urls in included.items():
        yield Binding(pattern, tuple(urls))
    excluded = dict.fromkeys(pattern for source in indexes for pattern in source.exclude)
    for pattern in excluded:
        yield Binding(pattern, tuple(s.url for s in indexes if pattern not in s.exclude))
