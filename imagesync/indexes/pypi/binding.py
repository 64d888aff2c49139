"""What a project's tool says of an index beyond its URL, and which packages come from it alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from imagesync.core.credentials import redact, strip_credentials

# How several indexes are asked, in uv's words: ``--index-strategy``.
Strategy = Literal["first-index", "unsafe-first-match", "unsafe-best-match"]


@dataclass(frozen=True)
class IndexOptions:
    """How an index is to be treated.

    Parameters
    ----------
    authenticate
        uv's ``authenticate``: ``auto``, ``always`` or ``never``.
    ignore_error_codes
        HTTP statuses by which the index says that it doesn't have a package.
    keyring_services
        Names of keyring entries beside the index's URL and host.
    """

    authenticate: str = "auto"
    ignore_error_codes: tuple[int, ...] = ()
    keyring_services: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Binding:
    """The indexes that a package comes from, and no others.

    Parameters
    ----------
    package
        A canonical name, or a pattern in the manner of :mod:`fnmatch`.
    urls
        WITH credentials. Several are alternatives, tried in their order: which one holds is decided by an
        extra that nothing installed tells. None at all where those there were don't answer.
    optional
        Whether the other indexes are asked last, as where the package is bound for some extras only.
    """

    package: str
    urls: tuple[str, ...]
    optional: bool = False

    @property
    def choices(self) -> tuple[str | None, ...]:
        """Return what to try, in this order; ``None`` stands for the indexes of all other packages."""
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
