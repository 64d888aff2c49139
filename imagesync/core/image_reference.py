"""Image references: their grammar, their parts, and the names that Docker and Podman give the same image.

Source: the ``reference`` package of github.com/distribution/reference, which the OCI
distribution specification ("Pulling manifests") agrees with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from imagesync.errors import UsageError

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"(?:{_DOMAIN}/)?{_PATH_PART}(?:/{_PATH_PART})*"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_MAX_NAME = 255
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_NAMES = frozenset({_DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


class Reference(NamedTuple):
    """The parts of a reference.

    Parameters
    ----------
    domain
        The registry, such as ``docker.io`` or ``registry.example.com:5000``; also Podman's ``localhost``.
    path
        The repository in that registry, such as ``library/ubuntu``.
    tag
        ``None`` where none was written.
    digest
        ``sha256:<hex>``, or ``None``.
    written_domain
        Whether the registry was written out.
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None
    written_domain: bool

    @property
    def name(self) -> str:
        """Return registry and repository, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def names_registry(self) -> bool:
        """Return True if a registry was written out; Podman's ``localhost/`` is none.

        >>> parse_reference("registry.example.com/env").names_registry
        True
        >>> parse_reference("team/env").names_registry, parse_reference("localhost/env").names_registry
        (False, False)
        """
        return self.written_domain and self.domain != "localhost"

    def is_beside(self, other: Reference) -> bool:
        """Return True if *other* is another repository of the same registry, which mounts blobs of this one.

        >>> env, base = parse_reference("example.com/env"), parse_reference("example.com/base")
        >>> env.is_beside(base), env.is_beside(env), env.is_beside(parse_reference("example.org/base"))
        (True, False, False)
        """
        return self.domain == other.domain and self.path != other.path

    def names(self, *, podman: bool) -> tuple[str, ...]:
        """Return the full names that an engine may keep this repository under, the most likely first.

        Podman puts what it built or imported itself under ``localhost/``, and finds it by the short name.

        >>> parse_reference("ubuntu:24.04").names(podman=True)
        ('localhost/ubuntu', 'docker.io/library/ubuntu')
        >>> parse_reference("ubuntu:24.04").names(podman=False)
        ('docker.io/library/ubuntu',)
        """
        if podman and not self.written_domain:
            return (f"localhost/{self.path.removeprefix('library/')}", self.name)
        return (self.name,)


def parse_reference(text: str) -> Reference:
    """Return the parts of a reference, with Docker's defaults for those that aren't written.

    >>> parse_reference("ubuntu:24.04").name
    'docker.io/library/ubuntu'
    >>> parse_reference("registry.example.com:5000/team/env").name
    'registry.example.com:5000/team/env'
    >>> parse_reference("team/env@sha256:" + "0" * 64).tag is None
    True

    Notes
    -----
    The grammar is that of https://github.com/distribution/reference.
    """
    rest, _, digest = text.partition("@")
    first, separator, remainder = rest.partition("/")
    written = bool(separator) and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    domain, path = (first, remainder) if written else (_DOCKER_HUB, rest)
    path, _, tag = path.partition(":")
    if domain in _DOCKER_HUB_NAMES:
        domain = _DOCKER_HUB
        if "/" not in path:
            path = f"library/{path}"
    return Reference(domain, path, tag or None, digest or None, written)


def split_reference(text: str) -> tuple[str, str]:
    """Return the repository as it was written, and the tag, ``latest`` where there is none.

    >>> split_reference("registry.example.com:5000/env")
    ('registry.example.com:5000/env', 'latest')
    """
    head, separator, tail = text.rpartition(":")
    return (head, tail) if separator and "/" not in tail else (text, "latest")


def tags_by_repository(references: Iterable[str]) -> dict[str, list[str]]:
    """Return the tags of *references* by repository.

    >>> tags_by_repository(["team/env:1", "env:1", "team/env:2"])
    {'team/env': ['1', '2'], 'env': ['1']}
    """
    found: dict[str, list[str]] = {}
    for reference in references:
        repository, tag = split_reference(reference)
        found.setdefault(repository, []).append(tag)
    return found


def repository_of(text: str) -> str:
    """Return the repository as it was written, without tag and digest.

    >>> repository_of("registry.example.com:5000/env:1"), repository_of("env@sha256:" + "0" * 64)
    ('registry.example.com:5000/env', 'env')
    """
    return split_reference(text.partition("@")[0])[0]


def is_repository(text: str) -> bool:
    """Return True if *text* names a repository, without a tag and without a digest.

    >>> is_repository("registry.example.com:5000/team/imagesync")
    True
    >>> is_repository("imagesync:latest")
    False
    """
    return len(text) <= _MAX_NAME and re.fullmatch(_NAME, text) is not None


def check_reference(text: str, *, given_as: str, tag: bool = False) -> None:
    """Raise an error unless *text* is a reference.

    Parameters
    ----------
    given_as
        The option or setting that it comes from, such as ``--tag``.
    tag
        Whether it is the name of a new image, which can't have a digest.

    Raises
    ------
    UsageError
        It isn't one.
    """
    if is_reference(text) and not (tag and "@" in text):
        return
    problem = "can't be an image's name" if tag else "isn't an image reference"
    example = "registry.example.com/team/project:1.0" if tag else "ubuntu:24.04"
    raise UsageError(
        f"{given_as}: {text!r} {problem}.",
        hint=f"It takes one like '{example}': the part before the colon in lower case, and no spaces.",
    )


def is_reference(text: str) -> bool:
    """Return True if *text* names an image: a repository with an optional tag or digest.

    >>> is_reference("ubuntu:24.04")
    True
    >>> is_reference("ubuntu:24.04 --privileged")
    False
    """
    match = re.fullmatch(rf"({_NAME})(?::{_TAG})?(?:@{_DIGEST})?", text)
    return match is not None and len(match[1]) <= _MAX_NAME


def is_loopback(registry: str) -> bool:
    """Return True if a registry is on this machine, where engines require no TLS.

    >>> is_loopback("127.0.0.1:5000"), is_loopback("localhost"), is_loopback("[::1]:5000")
    (True, True, True)
    >>> is_loopback("registry.example.com")
    False
    """
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    host = urlsplit(f"//{registry}").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
