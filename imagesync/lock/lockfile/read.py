"""Reading ``conda-lock.yml``, of imagesync or of conda-lock, as a lock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import Level, canonical_name, is_valid_conda_part, is_valid_name
from imagesync.core.platforms import SUBDIRS
from imagesync.errors import LockError
from imagesync.lock.conda.conda_lock_file import CustomMetadata, parse_file
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.wheel_tags import filename_of
from imagesync.plan.plan import PlannedPackage
from imagesync.plan.specifiers import arbitrary
from imagesync.scan.environment import Source

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile
    from conda_lock.lockfile.v2prelim.models import LockedDependency

# conda-lock installs only these by default.
_CATEGORIES = frozenset({"main", "dev"})
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
# Credentials in a URL are before the host, and a token of conda in the path.
_CREDENTIALS = re.compile(
    r"(?P<scheme>[a-z]+://)(?P<user>[^/?#\\@\s]+@)?"
    r"(?P<host>(?:(?!/t/)[^?#\\@\s$])+)(?P<token>/t/[^/?#\\@\s]+(?=/))?"
)
_PYTHON = re.compile(r"[0-9]+(\.[0-9A-Za-z+]+)*")
_GLIBC = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
_REASON = "The lock file says so."
_ALIAS = "https://conda.anaconda.org"


@dataclass(frozen=True)
class ReadLock:
    """A lock file, read for one platform.

    Parameters
    ----------
    path
        The lock file.
    lock
        The lock. Its target has what the file records; conda packages in files of other tools lack facts
        that only their archives have.
    custom_metadata
        Facts that imagesync recorded beside the entries.
    interpreter_version
        Of Python, with the patch level; empty if the file doesn't record it.
    left_out
        Names of packages in categories that aren't installed by default, sorted.
    private
        URLs with credentials from variables.
    """

    path: Path
    lock: Lock
    custom_metadata: CustomMetadata
    interpreter_version: str = ""
    left_out: tuple[str, ...] = ()
    private: tuple[str, ...] = field(default=(), repr=False)


def read_lock(path: Path, *, platform: str, environ: Mapping[str, str]) -> ReadLock:
    """Return the lock for *platform* of the lock file at *path*.

    Parameters
    ----------
    path
        The lock file.
    platform
        ``linux/amd64``.
    environ
        Variables for credentials in URLs, which conda-lock writes as ``${TOKEN}``.

    Raises
    ------
    UsageError
        The file can't be read, or isn't a lock file.
    LockError
        It has no packages for *platform*, or one that can't be fetched and checked.
    """
    lockfile = parse_file(path)
    subdir = SUBDIRS[platform]
    _refuse_other_platform(path, lockfile, subdir)
    custom_metadata = CustomMetadata(lockfile.metadata.custom_metadata)
    read = _read(_Reader(path, custom_metadata, environ), lockfile, platform, subdir)
    if custom_metadata.is_ours and read.lock.digest != custom_metadata.head.get("digest"):
        # conda-lock also keeps the metadata of packages that it has replaced.
        return _read(_Reader(path, custom_metadata.changed(), environ), lockfile, platform, subdir)
    return read


def _read(reader: _Reader, lockfile: Lockfile, platform: str, subdir: str) -> ReadLock:
    custom_metadata = reader.custom_metadata
    entries = [entry for entry in lockfile.package if entry.platform == subdir]
    kept = [entry for entry in entries if _CATEGORIES & entry.categories or not entry.categories]
    _refuse_odd_names(reader.path, kept)
    in_image = [entry for entry in _of(kept, "conda") if entry.name not in custom_metadata.not_in_image]
    conda = tuple(sorted(map(reader.conda, in_image), key=lambda package: package.name))
    pip = list(_of(kept, "pip"))
    python = next((package.version for package in conda if package.name == "python"), "")
    python = python or custom_metadata.head.get("python", "")
    if python != "" and not (isinstance(python, str) and _PYTHON.fullmatch(python)):
        raise LockError(
            f"{reader.path} says that it is for Python {python!r}, which is no version.",
            hint="Make the lock file anew: imagesync lock -o FILE",
        )
    glibc = custom_metadata.head.get("glibc", "0.0")
    if not (isinstance(glibc, str) and _GLIBC.fullmatch(glibc)):
        raise LockError(
            f"{reader.path} says that it is for glibc {glibc!r}, which is no version.",
            hint="Make the lock file anew: imagesync lock -o FILE",
        )
    major, minor = map(int, glibc.split("."))
    lock = Lock(
        target=Target(platform, python, (major, minor)),
        packages=tuple(sorted(filter(None, map(reader.package, pip)), key=lambda package: package.name)),
        vendored=tuple(sorted(filter(None, map(reader.local, pip)), key=lambda package: package.name)),
        deviations=custom_metadata.deviations(),
        resolver=custom_metadata.head.get("resolver", "uv"),
        conda=conda,
        channels=tuple(reader.channel(channel.url) for channel in lockfile.metadata.channels),
    )
    return ReadLock(
        path=reader.path,
        lock=lock,
        custom_metadata=custom_metadata,
        interpreter_version=python,
        left_out=tuple(sorted({entry.name for entry in entries} - {entry.name for entry in kept})),
        private=tuple(dict.fromkeys(reader.private)),
    )


def _of(entries: Iterable[LockedDependency], manager: str) -> Iterator[LockedDependency]:
    for entry in entries:
        if entry.manager == manager and not (manager == "conda" and entry.name.startswith("__")):
            yield entry


def _refuse_odd_names(path: Path, entries: Iterable[LockedDependency]) -> None:
    # They become parts of paths, of file names and of commands.
    for entry in entries:
        is_conda = entry.manager == "conda"
        is_name = is_valid_conda_part(entry.name) if is_conda else is_valid_name(entry.name)
        is_version = is_valid_conda_part(entry.version) if is_conda else arbitrary(entry.version) is not None
        if not (is_name and is_version):
            raise LockError(
                f"{path} has an entry {entry.name!r} of version {entry.version!r}, which can't be a package.",
                hint="Make the lock file anew, or correct the entry.",
            )


def _refuse_other_platform(path: Path, lockfile: Lockfile, subdir: str) -> None:
    platforms = sorted({entry.platform for entry in lockfile.package} | set(lockfile.metadata.platforms))
    if any(entry.platform == subdir for entry in lockfile.package):
        return
    raise LockError(
        f"{path} is locked for {', '.join(platforms) or 'no platform'}, and the image is for {subdir}.",
        hint=f"Lock for it, too: conda-lock lock --platform {subdir}, or imagesync lock -o {path.name}",
    )


@dataclass(frozen=True)
class _Reader:
    path: Path
    custom_metadata: CustomMetadata
    environ: Mapping[str, str]
    private: list[str] = field(default_factory=list)

    def conda(self, entry: LockedDependency) -> LockedConda:
        """Return a conda entry; in files of other tools, facts that only its archive has are missing."""
        known = self.custom_metadata.conda_package(entry.name)
        artifact = replace(self._artifact(entry), size=known.pop("size", None))
        folder, _, filename = artifact.url.rpartition("/")
        channel, _, subdir = folder.rpartition("/")
        return LockedConda.from_dict(
            {
                "name": entry.name,
                "version": entry.version,
                "build": _build(filename),
                "channel": channel,
                "md5": entry.hash.md5 or "",
                "depends": [f"{name} {spec}".strip() for name, spec in entry.dependencies.items()],
                **known,
                "subdir": subdir,
                "artifact": artifact.to_dict(),
            }
        )

    def package(self, entry: LockedDependency) -> LockedPackage | None:
        """Return a pip entry from an index; ``None`` for a file beside the lock file."""
        if self._is_local(entry):
            return None
        known = self.custom_metadata.package("pip", entry.name)
        artifact = replace(self._artifact(entry), size=known.get("size"))
        return LockedPackage(canonical_name(entry.name), entry.version, artifact)

    def local(self, entry: LockedDependency) -> VendoredPackage | None:
        """Return a pip entry whose wheel is beside the lock file; ``None`` for others."""
        if not self._is_local(entry):
            return None
        artifact = self._artifact(entry)
        name = canonical_name(entry.name)
        planned = PlannedPackage(
            name=name,
            version=entry.version,
            level=self.custom_metadata.level("pip", entry.name),
            specifier=f"=={entry.version}",
            reason=_REASON,
            source=Source("archive", url=artifact.url, hash=artifact.digest),
        )
        known = self.custom_metadata.package("pip", entry.name)
        return VendoredPackage(name, entry.version, known["content"], planned, known.get("repacked", ""))

    def channel(self, url: str) -> str:
        """Return the URL of a channel without credentials; the file may only have its name."""
        return strip_credentials(self._expanded(url)) if "://" in url else f"{_ALIAS}/{url}"

    def _is_local(self, entry: LockedDependency) -> bool:
        # A wheel that imagesync made, and not a file of an index in a folder.
        return "content" in self.custom_metadata.package("pip", entry.name) and _is_relative(entry.url)

    def _artifact(self, entry: LockedDependency) -> Artifact:
        if entry.source is not None or entry.url.startswith(("git+", "hg+", "svn+", "bzr+")):
            raise LockError(
                f"{self.path}: {entry.name} {entry.version} comes from {strip_credentials(entry.url)}, which "
                "has no digest that it could be checked by.",
                hint="`imagesync lock`, in an environment that has it, locks its wheel.",
            )
        if not entry.hash.sha256 and entry.manager == "pip":
            raise LockError(
                f"{self.path}: {entry.name} {entry.version} has no sha256, so its file can't be checked.",
                hint="Lock again with the newest conda-lock.",
            )
        url = self._resolved(entry.url)
        try:
            filename = filename_of(url)
        except LockError as error:
            raise LockError(
                f"{self.path}: {entry.name} {entry.version}: {error.message}", hint=error.hint
            ) from error
        digest = f"sha256:{entry.hash.sha256}" if entry.hash.sha256 else ""
        return Artifact(filename=filename, url=url, digest=digest)

    def _resolved(self, url: str) -> str:
        if _is_relative(url):
            return (self.path.parent.resolve() / unquote(url.removeprefix("file:"))).as_uri()
        expanded = self._expanded(url)
        public = strip_credentials(expanded).partition("#")[0]
        if public != expanded.partition("#")[0]:
            self.private.append(expanded.partition("#")[0])
        return public

    def _expanded(self, url: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in self.environ:
                raise LockError(
                    f"{self.path}: {strip_credentials(url)} needs the variable {match[1]}, which isn't set.",
                    hint=f"Set it to what the channel asks for: export {match[1]}=...",
                )
            return self.environ[match[1]]

        match = _CREDENTIALS.match(url)
        scheme, user, host, token = match.groups("") if match else ("",) * 4
        rest = url[match.end() :] if match else url
        variable = _VARIABLE.search(rest)
        if variable is not None:
            raise LockError(
                f"{self.path}: {strip_credentials(url)} has the variable {variable[1]} outside of its "
                "credentials.",
                hint="Variables are for a user name, a password (https://${NAME}:${WORD}@host/) "
                "and a token (https://host/t/${TOKEN}/channel); write other values out.",
            )
        return scheme + _VARIABLE.sub(value, user) + host + _VARIABLE.sub(value, token) + rest


def _is_relative(url: str) -> bool:
    path = url.removeprefix("file:")
    return "://" not in url and not path.startswith("/") and not Path(path).is_absolute()


def _build(filename: str) -> str:
    stem = filename.removesuffix(".conda").removesuffix(".tar.bz2")
    return stem.rpartition("-")[2]


def planned_packages(read: ReadLock) -> Iterator[PlannedPackage]:
    """Yield the packages of pip as planned packages."""
    for package in read.lock.packages:
        level: Level = read.custom_metadata.level("pip", package.name)
        yield PlannedPackage(package.name, package.version, level, f"=={package.version}", _REASON)
    yield from (package.planned for package in read.lock.vendored)
