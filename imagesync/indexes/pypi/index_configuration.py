"""The configuration of indexes, by pip or by a project's tool, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

from imagesync.core.credentials import redact, strip_credentials
from imagesync.indexes.configuration_files import table

PYPI: Final = "https://pypi.org/simple"
Tool = Literal["uv", "pixi", "poetry", "pdm"]
# uv's ``--index-strategy``.
Strategy = Literal["first-index", "unsafe-first-match", "unsafe-best-match"]


@dataclass(frozen=True)
class IndexOptions:
    """Options of an index.

    Parameters
    ----------
    authenticate
        uv's ``authenticate``: ``auto``, ``always`` or ``never``.
    ignore_error_codes
        HTTP statuses that mean that the index lacks a package.
    keyring_services
        Service names in keyring besides the index's URL and host.
    """

    authenticate: str = "auto"
    ignore_error_codes: tuple[int, ...] = ()
    keyring_services: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Binding:
    """The only indexes that a package may come from.

    Parameters
    ----------
    package
        A canonical name, or a pattern in the manner of :mod:`fnmatch`.
    urls
        WITH credentials. Several are alternatives to try in their order, because the extra that decides isn't
        recorded. Empty if they don't answer.
    optional
        Ask the other indexes last, because the package is bound for some extras only.
    """

    package: str
    urls: tuple[str, ...]
    optional: bool = False

    @property
    def choices(self) -> tuple[str | None, ...]:
        """Return the URLs to try in their order; ``None`` stands for the indexes of other packages."""
        return (*self.urls, None) if self.optional else self.urls

    @property
    def public_urls(self) -> tuple[str, ...]:
        """Return the URLs without credentials."""
        return tuple(map(strip_credentials, self.urls))

    def __repr__(self) -> str:
        """Return the binding without credentials."""
        urls = tuple(map(redact, self.urls))
        return f"Binding({self.package!r}, {urls!r}, optional={self.optional})"


def binding_of(bindings: Iterable[Binding], name: str) -> Binding | None:
    """Return the binding of the package *name* (canonical): the first that matches.

    >>> bindings = [Binding("torch*", ("https://wheels.example.com/cpu",))]
    >>> binding_of(bindings, "torchvision").urls
    ('https://wheels.example.com/cpu',)
    >>> binding_of(bindings, "numpy")
    """
    return next((binding for binding in bindings if fnmatchcase(name, binding.package)), None)


@dataclass(frozen=True, repr=False)
class IndexConfiguration:
    """The user's configuration of indexes; URLs are WITH their credentials.

    Parameters
    ----------
    index_url
        ``None`` if nothing is configured, which means PyPI.
    extra_index_urls, find_links
        In the configuration's order; a find-links entry may be a path.
    no_index
        Use *find_links* only.
    cert, client_cert
        Paths of PEM files.
    trusted_hosts
        ``host`` or ``host:port`` whose certificate isn't checked.
    proxy
        The URL of a proxy.
    timeout
        In seconds.
    keyring_provider
        ``auto``, ``disabled``, ``import`` or ``subprocess``; ``None`` if nothing is configured.
    build_constraints
        Files and URLs that limit the versions of build requirements: pip's ``constraint`` and
        ``build-constraint``.
    tool
        The tool whose configuration it is.
    source
        The source of the configuration, for hints.
    bound
        Packages with indexes of their own; no other index is asked for them.
    options
        Options of indexes, by URL without credentials.
    strategy
        uv's strategy for several indexes.
    passed_on
        Settings of uv that restrict the files to take from indexes.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    client_cert: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    proxy: str | None = None
    timeout: float | None = None
    keyring_provider: str | None = None
    build_constraints: tuple[str, ...] = ()
    tool: Literal["pip"] | Tool = "pip"
    source: str = "`pip config list`"
    bound: tuple[Binding, ...] = ()
    options: Mapping[str, IndexOptions] = field(default_factory=dict)
    strategy: Strategy = "unsafe-best-match"
    passed_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def public_urls(self) -> tuple[str, ...]:
        """Return the configured index URLs, the main one first, without credentials."""
        urls = [url for url in (self.index_url, *self.extra_index_urls) if url]
        if not urls or self.no_index:
            return ()
        return tuple(dict.fromkeys(strip_credentials(url) for url in urls))

    @property
    def bound_urls(self) -> tuple[str, ...]:
        """Return the URLs of the indexes that packages are bound to, without credentials."""
        return tuple(dict.fromkeys(url for binding in self.bound for url in binding.public_urls))

    @property
    def file_choice(self) -> tuple[object, ...]:
        """Return all but the :attr:`public_urls` that decides which file is taken: JSON, no credentials."""
        links = [strip_credentials(link) for entry in self.find_links for link in entry.split()]
        bound = [[binding.package, list(binding.public_urls), binding.optional] for binding in self.bound]
        return links, self.no_index, self.strategy, bound, dict(self.passed_on)

    def __repr__(self) -> str:
        """Return the configuration without credentials."""
        shown = ", ".join(f"{item.name}={redact(repr(getattr(self, item.name)))}" for item in fields(self))
        return f"{type(self).__name__}({shown})"


@dataclass(frozen=True)
class Project:
    """A project of one tool.

    Parameters
    ----------
    tool
        The tool that manages it.
    root
        The folder of its manifest.
    pyproject
        The content of its ``pyproject.toml``; empty if there is none.
    """

    tool: Tool
    root: Path
    pyproject: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def table(self) -> dict[str, Any]:
        """Return ``[tool.<tool>]``."""
        return table(self.pyproject, "tool", self.tool)
