"""Reading ``conda-lock.yml``, of imagesync or of conda-lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import canonical_name
from imagesync.errors import LockError
from imagesync.lock.conda.conda_lock_file import parse_file
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.custom_metadata import CustomMetadata
from imagesync.lock.lockfile.lock_entries import (
    EntryUrls,
    bundled_wheel,
    check_entry,
    chosen_names,
    is_relative,
    place_of,
    recorded_target,
    refuse_choice,
    refuse_duplicates,
)
from imagesync.lock.lockfile.models import ReadLock, ReadRequest

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile
    from conda_lock.lockfile.v2prelim.models import LockedDependency

# conda-lock installs only these by default.
_CATEGORIES = ("main", "dev")
_ALIAS = "https://conda.anaconda.org"


def read(request: ReadRequest) -> ReadLock:
    """Return the lock of a file of conda-lock, version 1 or 2 of the format."""
    lockfile = parse_file(request.path)
    subdir = request.platform.subdir
    _refuse_other_platform(request.path, lockfile, subdir)
    custom_metadata = CustomMetadata(lockfile.metadata.custom_metadata, subdir)
    read = _read(_Reader(request, custom_metadata), lockfile, subdir)
    if custom_metadata.is_ours and read.lock.digest != custom_metadata.head.get("digest"):
        # conda-lock also keeps the metadata of packages that it has replaced.
        return _read(_Reader(request, custom_metadata.changed()), lockfile, subdir)
    return read


def _read(reader: _Reader, lockfile: Lockfile, subdir: str) -> ReadLock:
    path, selection, metadata = reader.request.path, reader.request.selection, reader.custom_metadata
    entries = [entry for entry in lockfile.package if entry.platform == subdir]
    known = {category for entry in entries for category in entry.categories}
    categories = chosen_names(path, "category", (*selection.groups, *selection.extras), known)
    if selection.environment:
        refuse_choice(path, "environment", (selection.environment,))
    wanted = {*_CATEGORIES, *categories} - ({"dev"} if selection.no_dev else set())
    kept = [entry for entry in entries if wanted & entry.categories or not entry.categories]
    for entry in kept:
        check_entry(path, entry.name, entry.version, is_conda=entry.manager == "conda")
    for manager in ("conda", "pip"):
        refuse_duplicates(path, (entry.name for entry in _of(kept, manager)))
    in_image = [entry for entry in _of(kept, "conda") if entry.name not in metadata.not_in_image]
    conda = tuple(sorted(map(reader.conda, in_image), key=lambda package: package.name))
    pip = list(_of(kept, "pip"))
    python = next((package.version for package in conda if package.name == "python"), "")
    target = recorded_target(path, metadata, python, reader.request.platform)
    lock = Lock(
        target=target,
        packages=tuple(sorted(filter(None, map(reader.package, pip)), key=lambda package: package.name)),
        vendored=tuple(sorted(filter(None, map(reader.local, pip)), key=lambda package: package.name)),
        deviations=metadata.deviations(),
        resolver=metadata.head.get("resolver", "uv"),
        conda=conda,
        channels=tuple(reader.channel(channel.url) for channel in lockfile.metadata.channels),
    )
    return ReadLock(
        path=path,
        lock=lock,
        custom_metadata=metadata,
        interpreter_version=target.python_version,
        left_out=tuple(sorted({entry.name for entry in entries} - {entry.name for entry in kept})),
        others=tuple(sorted(known - wanted)),
        private=reader.urls.private,
        is_exact=metadata.is_ours,
    )


def _of(entries: Iterable[LockedDependency], manager: str) -> Iterator[LockedDependency]:
    for entry in entries:
        if entry.manager == manager and not (manager == "conda" and entry.name.startswith("__")):
            yield entry


def _refuse_other_platform(path: Path, lockfile: Lockfile, subdir: str) -> None:
    platforms = sorted({entry.platform for entry in lockfile.package} | set(lockfile.metadata.platforms))
    if any(entry.platform == subdir for entry in lockfile.package):
        return
    raise LockError(
        f"{path} is locked for {', '.join(platforms) or 'no platform'}, and the image is for {subdir}.",
        hint=f"Lock for it, too: conda-lock lock --platform {subdir}, or imagesync lock --platform PLATFORM"
        " -o FILE",
    )


@dataclass(frozen=True)
class _Reader:
    request: ReadRequest
    custom_metadata: CustomMetadata

    @cached_property
    def urls(self) -> EntryUrls:
        return EntryUrls(self.request.path, self.request.environ)

    def conda(self, entry: LockedDependency) -> LockedConda:
        """Return a conda entry; in files of other tools, facts that only its archive has are missing."""
        known = self.custom_metadata.conda_package(entry.name)
        artifact = replace(self._artifact(entry), size=known.pop("size", None))
        return LockedConda.from_dict(
            {
                "name": entry.name,
                "version": entry.version,
                "md5": entry.hash.md5 or "",
                "depends": [f"{name} {spec}".strip() for name, spec in entry.dependencies.items()],
                **place_of(artifact),
                **known,
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
        return bundled_wheel(entry.name, entry.version, self._artifact(entry), self.custom_metadata)

    def channel(self, url: str) -> str:
        """Return the URL of a channel without credentials; the file may only have its name."""
        return self.urls.public(url) if "://" in url else f"{_ALIAS}/{url}"

    def _is_local(self, entry: LockedDependency) -> bool:
        # A wheel that imagesync made, and not a file of an index in a folder.
        return "content" in self.custom_metadata.package("pip", entry.name) and is_relative(entry.url)

    def _artifact(self, entry: LockedDependency) -> Artifact:
        path = self.request.path
        if entry.source is not None or entry.url.startswith(("git+", "hg+", "svn+", "bzr+")):
            raise LockError(
                f"{path}: {entry.name} {entry.version} comes from {strip_credentials(entry.url)}, which "
                "has no digest that it could be checked by.",
                hint="`imagesync lock`, in an environment that has it, locks its wheel.",
            )
        if not entry.hash.sha256 and (entry.manager == "pip" or not entry.hash.md5):
            raise LockError(
                f"{path}: {entry.name} {entry.version} has no sha256, so its file can't be checked.",
                hint="Lock again with the newest conda-lock: conda-lock lock",
            )
        digest = f"sha256:{entry.hash.sha256}" if entry.hash.sha256 else ""
        return self.urls.artifact(f"{entry.name} {entry.version}", entry.url, digest)
