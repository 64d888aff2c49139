"""Files for uv: ``uv.toml`` with the indexes, and a project with the packages that are bound to an index.

uv binds packages to indexes only for the dependencies of a project (``tool.uv.sources``), so a request for
them is written as a project. Logins are passed by environment variables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import canonical_name
from imagesync.indexes.pypi.index_configuration import IndexOptions, binding_of

if TYPE_CHECKING:
    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

# The name of the project in uv's messages.
PROJECT = "imagesync-question"


@dataclass(frozen=True)
class BoundRequirement:
    """A requirement, and the URL of the index that it comes from, with credentials."""

    requirement: str
    name: str
    url: str = field(repr=False)


def write_uv_toml(indexes: IndexConfiguration, path: Path) -> dict[str, str]:
    """Write *indexes* for uv into *path*, without credentials; return the variables that have these."""
    main = indexes.index_url
    pool = [url for url in indexes.extra_index_urls if url != main] + ([main] if main is not None else [])
    lines = [f"{key} = {_toml(value)}" for key, value in indexes.passed_on.items()]
    lines.append(f"index-strategy = {_toml(indexes.strategy)}")
    if indexes.keyring_provider == "disabled":
        lines.append('keyring-provider = "disabled"')
    variables: dict[str, str] = {}
    for number, url in enumerate(pool):
        lines += _index(url, f"imagesync-{number}", indexes, variables)
        if url == main:
            lines.append("default = true")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return variables


def split_requirements(
    requirements: Iterable[str],
    indexes: IndexConfiguration,
    *,
    attempt: int = 0,
    besides: Iterable[str] = (),
) -> tuple[tuple[BoundRequirement, ...], tuple[str, ...]]:
    """Return the requirements of bound packages, and the others.

    Parameters
    ----------
    requirements
        Lines as in ``requirements.txt``.
    indexes
        The configured indexes.
    attempt
        The index of the alternative to use, from 0; a package with fewer alternatives gets its last.
    besides
        Bound packages that aren't requirements, but known dependencies.
    """
    bound: list[BoundRequirement] = []
    others: list[str] = []
    for line in requirements:
        name = requirement_name(line)
        url = _choice(name, indexes, attempt) if name else None
        if url is None:
            others.append(line)
        else:
            bound.append(BoundRequirement(line, name, url))
    known = {requirement.name for requirement in bound}
    bound += [
        BoundRequirement(name, name, url)
        for name in besides
        if name not in known and (url := _choice(name, indexes, attempt)) is not None
    ]
    return tuple(bound), tuple(others)


def write_project(
    bound: Sequence[BoundRequirement], indexes: IndexConfiguration, path: Path
) -> dict[str, str]:
    """Write a ``pyproject.toml`` with *bound* as dependencies; return the variables that have credentials."""
    names = {
        url: f"imagesync-bound-{number}" for number, url in enumerate(dict.fromkeys(b.url for b in bound))
    }
    variables: dict[str, str] = {}
    lines = ["[project]", f'name = "{PROJECT}"', 'version = "0"']
    lines += [f"dependencies = {_toml([requirement.requirement for requirement in bound])}", ""]
    for url, name in names.items():
        entry = _index(url, name, indexes, variables)
        lines += ["[[tool.uv.index]]", *entry[1:], "explicit = true", ""]
    lines.append("[tool.uv.sources]")
    lines += [f"{name} = {{ index = {_toml(names[url])} }}" for name, url in _urls(bound).items()]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return variables


def _toml(value: object) -> str:
    """Return a string, number, boolean, or list of these as TOML, which writes them like JSON."""
    return json.dumps(value, ensure_ascii=False)


def requirement_name(line: str) -> str:
    """Return the canonical name of a requirement that an index answers; empty for any other line.

    >>> requirement_name("Torch[cuda]>=2 ; python_version > '3'"), requirement_name("a @ file:///a.whl")
    ('torch', '')
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return ""
    return "" if requirement.url else canonical_name(requirement.name)


def _urls(bound: Iterable[BoundRequirement]) -> Mapping[str, str]:
    return {requirement.name: requirement.url for requirement in bound}


def _choice(name: str, indexes: IndexConfiguration, attempt: int) -> str | None:
    binding = binding_of(indexes.bound, name)
    if binding is None or not binding.choices:
        return None
    return binding.choices[min(attempt, len(binding.choices) - 1)]


def _index(url: str, name: str, indexes: IndexConfiguration, variables: dict[str, str]) -> list[str]:
    """Return the lines of an index, and put its credentials into *variables*."""
    public = strip_credentials(url)
    options = indexes.options.get(public, IndexOptions())
    lines = ["[[index]]", f"name = {_toml(name)}", f"url = {_toml(public)}"]
    if options.authenticate != "auto":
        lines.append(f"authenticate = {_toml(options.authenticate)}")
    if options.ignore_error_codes:
        lines.append(f"ignore-error-codes = {_toml(options.ignore_error_codes)}")
    parts = urlsplit(url)
    key = f"UV_INDEX_{name.upper().replace('-', '_')}"
    if parts.username:
        variables[f"{key}_USERNAME"] = unquote(parts.username)
    if parts.password is not None:
        variables[f"{key}_PASSWORD"] = unquote(parts.password)
    return lines
