"""uv's configuration of indexes: ``UV_*``, ``uv.toml`` and ``[tool.uv]``, ``tool.uv.sources``.

The source is uv's documentation, *Package indexes*, *Managing dependencies* and *Configuration files*.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from imagesync.core.names import canonical_name
from imagesync.core.user_folders import system_config_folders, xdg_config_folder
from imagesync.indexes.configuration_files import read_document, table, tables, texts
from imagesync.indexes.pypi.index_configuration import (
    Binding,
    IndexConfiguration,
    IndexOptions,
    Project,
    Strategy,
)
from imagesync.indexes.pypi.index_urls import UvLogins, location, read_uv_logins, with_login

_STRATEGIES = ("first-index", "unsafe-first-match", "unsafe-best-match")
# Settings of uv that restrict the files to take from indexes; they are passed on as they are.
_PASSED_ON = (
    "exclude-newer",
    "prerelease",
    "no-build",
    "no-build-package",
    "no-binary",
    "no-binary-package",
)


@dataclass(frozen=True)
class _Index:
    url: str = field(repr=False)
    name: str = ""
    default: bool = False
    explicit: bool = False
    flat: bool = False
    options: IndexOptions = field(default_factory=IndexOptions)


def read_uv(
    project: Project | None,
    environ: Mapping[str, str],
    *,
    markers: Mapping[str, str] | None = None,
    platform: str = sys.platform,
) -> IndexConfiguration:
    """Return uv's configuration of indexes in *project*, or outside of any.

    Parameters
    ----------
    project
        The project, or ``None``.
    environ
        ``UV_*``, ``HOME`` and ``XDG_*`` count.
    markers
        The target's marker values (PEP 508), which choose alternatives in ``tool.uv.sources``; without
        them all apply.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A configuration file can't be read, or isn't TOML.
    """
    files = _files(project, environ, platform)
    logins = read_uv_logins(environ, platform)
    reader = _Reader(files, environ, logins)
    pool = reader.pool()
    main = next((index for index in pool if index.default), None)
    first = reader.first
    return IndexConfiguration(
        tool="uv",
        source=_named(project, files),
        index_url=main.url if main is not None else None,
        extra_index_urls=tuple(dict.fromkeys(index.url for index in pool if not index.default)),
        find_links=reader.find_links(),
        no_index=first("no-index") is True,
        cert=environ.get("SSL_CERT_FILE") or None,
        client_cert=environ.get("SSL_CLIENT_CERT") or None,
        trusted_hosts=(
            *environ.get("UV_INSECURE_HOST", "").split(),
            *(host for _, values in files for host in texts(values.get("allow-insecure-host"))),
        ),
        timeout=_seconds(environ.get("UV_HTTP_TIMEOUT", "")),
        keyring_provider=str(environ.get("UV_KEYRING_PROVIDER") or first("keyring-provider") or "disabled"),
        bound=tuple(reader.bindings(project, markers)),
        options=reader.options(),
        strategy=_strategy(environ.get("UV_INDEX_STRATEGY") or first("index-strategy")),
        passed_on={key: v for key in _PASSED_ON if isinstance(v := first(key), bool | str | list)},
    )


def _named(project: Project | None, files: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    """Return the source of the configuration, for hints."""
    if project is None:
        return f"{files[0][0]} and UV_INDEX" if files else "UV_INDEX"
    uv_toml = project.root / "uv.toml"
    return (
        f"[[index]] in {uv_toml}"
        if uv_toml.is_file()
        else f"[[tool.uv.index]] in {project.root / 'pyproject.toml'}"
    )


def _files(
    project: Project | None, environ: Mapping[str, str], platform: str
) -> list[tuple[Path, dict[str, Any]]]:
    """Return uv's configuration files and their settings, by precedence."""
    if environ.get("UV_NO_CONFIG", "") in ("1", "true"):
        return []
    if environ.get("UV_CONFIG_FILE"):
        named = Path(environ["UV_CONFIG_FILE"])
        return [(named, read_document(named))]
    found: list[tuple[Path, dict[str, Any]]] = []
    if project is not None:
        root = _workspace_root(project)
        uv_toml = root / "uv.toml"
        settings = (
            read_document(uv_toml) if uv_toml.is_file() else table(_document(project, root), "tool", "uv")
        )
        # ``uv sync`` ignores the section for ``uv pip``.
        if not (root / "uv.lock").is_file():
            settings = {**settings, **table(settings, "pip")}
        found.append((uv_toml if uv_toml.is_file() else root / "pyproject.toml", settings))
    folders = [xdg_config_folder(environ, platform), *system_config_folders(environ, platform)]
    for folder in folders:
        path = folder / "uv" / "uv.toml"
        if path.is_file():
            settings = read_document(path)
            found.append((path, {**settings, **table(settings, "pip")}))
    return found


def _document(project: Project, root: Path) -> Mapping[str, Any]:
    return project.pyproject if root == project.root else read_document(root / "pyproject.toml")


def _workspace_root(project: Project) -> Path:
    """Return the folder of the workspace that *project* is a member of, or its own."""
    if "workspace" in project.table:
        return project.root
    for folder in project.root.parents:
        path = folder / "pyproject.toml"
        if path.is_file() and table(read_document(path), "tool", "uv", "workspace"):
            return folder
    return project.root


def _members(project: Project) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the manifests whose sources apply: that of the workspace, and those of its members."""
    root = _workspace_root(project)
    document = _document(project, root)
    yield root, document
    workspace = table(document, "tool", "uv", "workspace")
    left_out = {path for pattern in texts(workspace.get("exclude")) for path in root.glob(pattern)}
    for pattern in texts(workspace.get("members")):
        for folder in sorted(root.glob(pattern)):
            if folder not in left_out and (folder / "pyproject.toml").is_file():
                yield folder, read_document(folder / "pyproject.toml")


class _Reader:
    """The indexes of all files and variables, by precedence."""

    def __init__(
        self,
        files: Sequence[tuple[Path, Mapping[str, Any]]],
        environ: Mapping[str, str],
        logins: UvLogins,
    ) -> None:
        self._files = files
        self._environ = environ
        self._logins = logins
        self._indexes = list(self._all())

    def first(self, key: str) -> Any:  # noqa: ANN401  as TOML has it
        """Return the value of a setting with the highest precedence."""
        return next((values[key] for _, values in self._files if key in values), None)

    def pool(self) -> list[_Index]:
        """Return the indexes that every package may come from, each name and each URL once."""
        chosen: list[_Index] = []
        names: set[str] = set()
        for index in self._indexes:
            known = index.name in names or any(index.url == other.url for other in chosen)
            second_default = index.default and any(other.default for other in chosen)
            if index.name:
                names.add(index.name)
            if not (known or second_default or index.explicit or index.flat):
                chosen.append(index)
        return chosen

    def find_links(self) -> tuple[str, ...]:
        """Return folders and pages with files."""
        by_variable = (part.strip() for part in self._environ.get("UV_FIND_LINKS", "").split(","))
        by_file = (
            location(entry, path.parent)
            for path, values in self._files
            for entry in texts(values.get("find-links"))
        )
        flat = (index.url for index in self._indexes if index.flat and not index.explicit)
        return tuple(dict.fromkeys(entry for entry in (*by_variable, *by_file, *flat) if entry))

    def options(self) -> dict[str, IndexOptions]:
        """Return the options of indexes, by their URLs without credentials."""
        from imagesync.core.credentials import strip_credentials

        found: dict[str, IndexOptions] = {}
        for index in self._indexes:
            if index.options != IndexOptions():
                found.setdefault(strip_credentials(index.url), index.options)
        return found

    def bindings(self, project: Project | None, markers: Mapping[str, str] | None) -> Iterator[Binding]:
        """Yield the packages that ``tool.uv.sources`` binds to an index."""
        if project is None:
            return
        named: dict[str, _Index] = {}
        for index in self._indexes:
            named.setdefault(index.name, index)
        for root, document in _members(project):
            uv = table(document, "tool", "uv")
            by_name = {index.name: index for index in self._configured(tables(uv.get("index")), root)}
            for name, value in table(uv, "sources").items():
                applying = [source for source in tables(value) if _applies(source, markers)]
                named_by = [str(source["index"]) for source in applying if "index" in source]
                chosen = [
                    found for key in named_by if (found := named.get(key) or by_name.get(key)) is not None
                ]
                if chosen:
                    always = any("extra" not in source and "group" not in source for source in applying)
                    urls = tuple(dict.fromkeys(index.url for index in chosen))
                    yield Binding(canonical_name(name), urls, optional=not always)

    def _all(self) -> Iterator[_Index]:
        environ = self._environ
        for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL"):
            for value in environ.get(variable, "").split():
                yield self._of_variable(value)
        for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
            if environ.get(variable):
                yield self._of_variable(environ[variable], default=True)
        for path, values in self._files:
            yield from self._configured(tables(values.get("index")), path.parent)
            for url in texts(values.get("extra-index-url")):
                yield _Index(self._with_login(location(url, path.parent)))
            for url in texts(values.get("index-url")):
                yield _Index(self._with_login(location(url, path.parent)), default=True)

    def _of_variable(self, value: str, *, default: bool = False) -> _Index:
        name, separator, url = value.partition("=")
        if not separator or "/" in name or ":" in name:
            return _Index(self._with_login(value), default=default)
        return _Index(self._with_login(url, name), name, default=default)

    def _configured(self, entries: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[_Index]:
        for entry in entries:
            if not isinstance(entry.get("url"), str):
                continue
            name = str(entry.get("name", ""))
            codes = entry.get("ignore-error-codes")
            yield _Index(
                url=self._with_login(location(entry["url"], folder), name),
                name=name,
                default=entry.get("default") is True,
                explicit=entry.get("explicit") is True,
                flat=entry.get("format") == "flat",
                options=IndexOptions(
                    authenticate=str(entry.get("authenticate", "auto")),
                    ignore_error_codes=tuple(code for code in codes if isinstance(code, int))
                    if isinstance(codes, list)
                    else (),
                ),
            )

    def _with_login(self, url: str, name: str = "") -> str:
        """Return the URL of an index with its login, from variables or else from ``uv auth``."""
        if name:
            key = "".join(letter if letter.isalnum() else "_" for letter in name).upper()
            user = self._environ.get(f"UV_INDEX_{key}_USERNAME", "")
            password = self._environ.get(f"UV_INDEX_{key}_PASSWORD", "")
            url = with_login(url, user, password)
        return self._logins.add_to(url)


def _applies(source: Mapping[str, Any], markers: Mapping[str, str] | None) -> bool:
    marker = source.get("marker")
    if not isinstance(marker, str) or markers is None:
        return True
    from packaging.markers import InvalidMarker, Marker

    try:
        return Marker(marker).evaluate({**markers, "extra": ""})
    except InvalidMarker:
        return False


def _strategy(value: object) -> Strategy:
    return cast("Strategy", value) if value in _STRATEGIES else "first-index"


def _seconds(value: str) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None
