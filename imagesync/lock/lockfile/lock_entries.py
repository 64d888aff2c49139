"""Entries of lock files: names, URLs and digests, checked before anything is made of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import Level, canonical_name, is_valid_conda_part, is_valid_name
from imagesync.core.platforms import Platform
from imagesync.core.text import counted
from imagesync.errors import LockError, UsageError
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, VendoredPackage
from imagesync.lock.wheel_tags import filename_of
from imagesync.plan.plan import PlannedPackage
from imagesync.plan.specifiers import arbitrary
from imagesync.scan.environment import Source

if TYPE_CHECKING:
    from packaging.markers import Environment

    from imagesync.lock.lockfile.custom_metadata import CustomMetadata

REASON: Final = "The lock file says so."
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
# Credentials in a URL are before the host, and a token of conda in the path.
_CREDENTIALS = re.compile(
    r"(?P<scheme>[a-z]+://)(?P<user>[^/?#\\@\s]+@)?"
    r"(?P<host>(?:(?!/t/)[^?#\\@\s$])+)(?P<token>/t/[^/?#\\@\s]+(?=/))?"
)
_SCHEMES = ("http", "https", "file")
_PYTHON = re.compile(r"[0-9]+(\.[0-9A-Za-z+]+)*")
_GLIBC = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


class EntryUrls:
    """The URLs of the entries of one lock file; their credentials are kept apart.

    Parameters
    ----------
    path
        The lock file, which relative paths start from.
    environ
        Variables for credentials, which conda-lock writes as ``${TOKEN}``.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path, self._environ = path, environ
        self._private: dict[str, None] = {}

    @property
    def private(self) -> tuple[str, ...]:
        """Return the URLs that had credentials, with them."""
        return tuple(self._private)

    def artifact(
        self, package: str, url: str, digest: str, *, filename: str = "", size: int | None = None
    ) -> Artifact:
        """Return an artifact at *url*, an absolute one or a path relative to the lock file.

        Parameters
        ----------
        package
            Name and version, for messages.
        url
            May have credentials, variables and a fragment.
        digest
            ``sha256:<hex>``, or empty if another digest is known.
        filename
            Its name; by default the last part of *url*.
        size
            In bytes; ``None`` if unknown.

        Raises
        ------
        LockError
            The URL, the digest or the name can't be that of an artifact.
        """
        if digest and not _SHA256.fullmatch(digest):
            raise LockError(
                f"{self._path}: {package} has {digest[:80]!r} for a digest, which is no sha256.",
                hint="Make the lock file anew, or correct the entry.",
            )
        resolved = self.resolved(url)
        if urlsplit(resolved).scheme not in _SCHEMES:
            raise LockError(
                f"{self._path}: {package} comes from {resolved}, which can't be fetched and checked.",
                hint="Correct its URL: https://, http://, file:///, or a path beside the lock file.",
            )
        try:
            return Artifact(filename_of(resolved, filename), resolved, digest, size)
        except LockError as error:
            raise LockError(f"{self._path}: {package}: {error.message}", hint=error.hint) from error

    def resolved(self, url: str) -> str:
        """Return the absolute URL of *url*, without credentials and fragment."""
        if is_relative(url):
            return (self._path.parent.resolve() / unquote(url.removeprefix("file:"))).as_uri()
        expanded = self._expanded(url).partition("#")[0]
        public = strip_credentials(expanded)
        if public != expanded:
            self._private[expanded] = None
        return public

    def public(self, url: str) -> str:
        """Return *url* without credentials."""
        return strip_credentials(self._expanded(url))

    def _expanded(self, url: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in self._environ:
                raise LockError(
                    f"{self._path}: {strip_credentials(url)} needs the variable {match[1]}, which isn't set.",
                    hint=f"Set it to what the channel asks for: export {match[1]}=...",
                )
            return self._environ[match[1]]

        match = _CREDENTIALS.match(url)
        scheme, user, host, token = match.groups("") if match else ("",) * 4
        rest = url[match.end() :] if match else url
        variable = _VARIABLE.search(rest)
        if variable is not None:
            raise LockError(
                f"{self._path}: {strip_credentials(url)} has the variable {variable[1]} outside of its "
                "credentials.",
                hint="Variables are for a user name, a password (https://${NAME}:${WORD}@host/) "
                "and a token (https://host/t/${TOKEN}/channel); write other values out.",
            )
        return scheme + _VARIABLE.sub(value, user) + host + _VARIABLE.sub(value, token) + rest


def is_relative(url: str) -> bool:
    """Return True if *url* is a path relative to the lock file.

    >>> is_relative("file:wheels/mine.whl"), is_relative("wheels/mine.whl"), is_relative("file:///wheels")
    (True, True, False)
    """
    path = url.removeprefix("file:")
    return "://" not in url and not path.startswith("/") and not Path(path).is_absolute()


def place_of(artifact: Artifact) -> dict[str, str]:
    """Return channel, subdirectory and build of a conda package, by the URL of its archive."""
    folder, _, filename = artifact.url.rpartition("/")
    channel, _, subdir = folder.rpartition("/")
    stem = filename.removesuffix(".conda").removesuffix(".tar.bz2")
    return {"channel": channel, "subdir": subdir, "build": stem.rpartition("-")[2]}


def check_entry(path: Path, name: str, version: str, *, is_conda: bool = False) -> None:
    """Check name and version of a package: they become parts of paths, of file names and of commands.

    An empty version is that of a source tree, which its build knows.

    Raises
    ------
    LockError
        They can't be those of a package.
    """
    is_name = is_valid_conda_part(name) if is_conda else is_valid_name(name)
    is_version = is_valid_conda_part(version) if is_conda else not version or arbitrary(version) is not None
    if not (is_name and is_version):
        raise LockError(
            f"{path} has an entry {name!r} of version {version!r}, which can't be a package.",
            hint="Make the lock file anew, or correct the entry.",
        )


def chosen_names(path: Path, what: str, wanted: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the groups, extras, categories or environments *wanted*, as the file spells them.

    Raises
    ------
    UsageError
        It lacks one.
    """
    spelled = {canonical_name(name): name for name in sorted(known)}
    found = []
    for name in wanted:
        own = name if name in known else spelled.get(canonical_name(name))
        if own is None:
            has = f"It has {', '.join(sorted(known))}." if known else f"It has no {what} to choose."
            raise UsageError(f"{path} has no {what} {name!r}.", hint=has)
        found.append(own)
    return tuple(found)


def refuse_choice(path: Path, what: str, wanted: Iterable[str]) -> None:
    """Check that no group, extra or environment is *wanted* of a file that has none to choose.

    Raises
    ------
    UsageError
        One is.
    """
    chosen_names(path, what, wanted, ())


def recorded_target(path: Path, metadata: CustomMetadata, python: str, platform: Platform) -> Target:
    """Return the target that a lock file records; what it doesn't say is empty, and its glibc 0.0.

    Parameters
    ----------
    path
        The lock file.
    metadata
        Facts that imagesync recorded.
    python
        The version of conda's Python among the packages; empty if there is none.
    platform
        That of the image.

    Raises
    ------
    LockError
        What it says isn't a version.
    """
    python = python or metadata.head.get("python", "")
    glibc = metadata.head.get("glibc", "0.0")
    for what, version, pattern in (("Python", python, _PYTHON), ("glibc", glibc, _GLIBC)):
        if version != "" and not (isinstance(version, str) and pattern.fullmatch(version)):
            raise LockError(
                f"{path} says that it is for {what} {version!r}, which is no version.",
                hint="Make the lock file anew: imagesync lock -o FILE",
            )
    major, minor = map(int, glibc.split("."))
    return Target(platform, python, (major, minor))


def bundled_wheel(name: str, version: str, artifact: Artifact, metadata: CustomMetadata) -> VendoredPackage:
    """Return the local package whose wheel imagesync put beside the lock file."""
    known = metadata.package("pip", canonical_name(name))
    source = Source("archive", url=artifact.url, hash=artifact.digest)
    package = local_package(name, version, source, metadata)
    return replace(package, content=known["content"], repacked=known.get("repacked", ""))


def local_package(
    name: str, version: str, source: Source, metadata: CustomMetadata | None = None
) -> VendoredPackage:
    """Return a package that no index has; the digest of its sources isn't known yet."""
    planned = PlannedPackage(
        name=canonical_name(name),
        version=version,
        level=Level.EXACT if metadata is None else metadata.level("pip", name),
        specifier=f"=={version}" if version else "",
        reason=REASON,
        source=source,
    )
    return VendoredPackage(planned.name, version, "", planned)


def refuse_duplicates(path: Path, names: Iterable[str]) -> None:
    """Check that each package is named once.

    Raises
    ------
    LockError
        One is named twice.
    """
    counts = Counter(names)
    name, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise LockError(
            f"{path} has {counted(count, 'entry')} for {name}, and the image takes one.",
            hint="Make the lock file anew, or take the others out.",
        )


def version_of(filename: str) -> str:
    """Return the version in the file name of a wheel or sdist; empty if it has none."""
    return name_and_version(filename)[1]


def name_and_version(filename: str) -> tuple[str, str]:
    """Return the canonical name and the version in the file name of a wheel or sdist; empty if it has none.

    >>> name_and_version("ruamel_yaml-0.18-py3-none-any.whl"), name_and_version("notes.txt")
    (('ruamel-yaml', '0.18'), ('', ''))
    """
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    try:
        parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
        name, version = parse(filename)[:2]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return "", ""
    return name, str(version)


def marker_values(target: Target) -> Environment:
    """Return the marker values (PEP 508) of *target*.

    Values that only a running machine has (``platform_release``, ``platform_version``) are empty.
    """
    return {
        "implementation_name": target.implementation,
        "implementation_version": target.python_version,
        "os_name": "posix",
        "platform_machine": target.platform.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": target.python_version,
        "python_version": target.minor,
        "sys_platform": "linux",
    }
