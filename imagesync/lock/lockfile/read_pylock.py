"""Reading ``pylock.toml`` with packaging.

Source: https://packaging.python.org/en/latest/specifications/pylock-toml/
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockUnsupportedVersionError,
    PylockValidationError,
)

from imagesync.core.credentials import reason_of, strip_credentials
from imagesync.core.files import parse_toml
from imagesync.core.names import canonical_name
from imagesync.errors import LockError, UsageError
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.custom_metadata import HEAD, CustomMetadata
from imagesync.lock.lockfile.lock_entries import (
    EntryUrls,
    bundled_wheel,
    check_entry,
    chosen_names,
    local_package,
    marker_values,
    recorded_target,
    refuse_choice,
    version_of,
)
from imagesync.lock.lockfile.models import ReadLock, ReadRequest, read_text
from imagesync.lock.lockfile.source_trees import directory_source, static_version
from imagesync.lock.wheel_tags import target_tags
from imagesync.scan.distributions.direct_url import refusal
from imagesync.scan.environment import Source

Found = PackageVcs | PackageDirectory | PackageArchive | PackageWheel | PackageSdist
_POSITION = re.compile(r" at packages\[\d+\]")


def read(request: ReadRequest) -> ReadLock:
    """Return the lock of a ``pylock.toml``; its default groups are taken where none is named."""
    text = read_text(request.path)
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{request.path} isn't TOML: {error}", hint="Lock again.") from error
    return read_document(request, document)


def read_document(request: ReadRequest, document: Mapping[str, Any]) -> ReadLock:
    """Return the lock of the content of a ``pylock.toml``; paths start from the folder of the request's file.

    Raises
    ------
    UsageError
        It isn't of PEP 751, or of a version that isn't known.
    LockError
        It doesn't fit the target, or has a package that can't be fetched and checked.
    """
    path, selection = request.path, request.selection
    pylock = _validated(path, document)
    if selection.environment:
        refuse_choice(path, "environment", (selection.environment,))
    defaults = [group for group in pylock.default_groups or () if not (selection.no_dev and group == "dev")]
    known_groups = {*(pylock.dependency_groups or ()), *(pylock.default_groups or ())}
    groups = {*defaults, *chosen_names(path, "group", selection.groups, known_groups)}
    extras = set(chosen_names(path, "extra", selection.extras, pylock.extras or ()))
    reader = _Reader(request, _metadata(pylock, request.platform.subdir))
    selected = reader.select(pylock, groups=groups, extras=extras)
    read = reader.lock(selected)
    if reader.metadata.is_ours and read.lock.digest != reader.metadata.head.get("digest"):
        read = replace(reader, metadata=reader.metadata.changed()).lock(selected)
    names = {package.name for package, _ in selected}
    others = sorted({*known_groups, *(pylock.extras or ())} - groups - extras)
    return replace(
        read,
        left_out=tuple(sorted({p.name for p in pylock.packages} - names)) if others else (),
        others=tuple(others),
    )


def _validated(path: Path, document: Mapping[str, Any]) -> Pylock:
    try:
        return Pylock.from_dict(document)
    except PylockUnsupportedVersionError as error:
        raise UsageError(
            f"{path} is of a version of its format that isn't known here: {reason_of(error)}",
            hint="Lock again with a tool that writes version 1.0, or take a newer imagesync.",
        ) from error
    except PylockValidationError as error:
        raise UsageError(
            f"{path} isn't a lock file of PEP 751: {reason_of(error)}",
            hint="Lock again, such as by: uv export --format pylock.toml -o pylock.toml",
        ) from error


def _metadata(pylock: Pylock, section: str) -> CustomMetadata:
    tool = (pylock.tool or {}).get(HEAD)
    return CustomMetadata(tool if isinstance(tool, Mapping) else None, section)


@dataclass(frozen=True)
class _Reader:
    request: ReadRequest
    metadata: CustomMetadata
    urls: EntryUrls = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "urls", EntryUrls(self.request.path, self.request.environ))

    @cached_property
    def recorded(self) -> Target:
        return recorded_target(self.request.path, self.metadata, "", self.request.platform)

    def select(
        self, pylock: Pylock, *, groups: Collection[str], extras: Collection[str]
    ) -> list[tuple[Package, Found]]:
        # A file of imagesync is for one target, and a build says what doesn't fit.
        target = self.recorded if self.recorded.python_version else self.request.target()
        try:
            return list(
                pylock.select(
                    environment=marker_values(target),
                    tags=target_tags(target),
                    extras=extras,
                    dependency_groups=groups,
                )
            )
        except PylockSelectError as error:
            raise LockError(
                f"{self.request.path} doesn't fit the image ({target.platform}, Python "
                f"{target.python_version}, glibc {'.'.join(map(str, target.glibc))}): "
                f"{_POSITION.sub('', reason_of(error))}.",
                hint=_remedy(pylock, target),
            ) from error

    def lock(self, selected: Sequence[tuple[Package, Found]]) -> ReadLock:
        packages: list[LockedPackage] = []
        vendored: list[VendoredPackage] = []
        for package, found in selected:
            check_entry(self.request.path, package.name, str(package.version or ""))
            entry = self._entry(package, found)
            packages += [entry] if isinstance(entry, LockedPackage) else []
            vendored += [entry] if isinstance(entry, VendoredPackage) else []
        lock = Lock(
            target=self.recorded,
            packages=tuple(sorted(packages, key=lambda package: package.name)),
            vendored=tuple(sorted(vendored, key=lambda package: package.name)),
            deviations=self.metadata.deviations(),
            resolver=self.metadata.head.get("resolver", "uv"),
        )
        return ReadLock(
            path=self.request.path,
            lock=lock,
            custom_metadata=self.metadata,
            interpreter_version=self.recorded.python_version,
            private=self.urls.private,
            is_pip_only=True,
        )

    def _entry(self, package: Package, found: Found) -> LockedPackage | VendoredPackage:
        version = str(package.version or "")
        if isinstance(found, PackageVcs):
            return local_package(package.name, version, self._commit(package, found), self.metadata)
        if isinstance(found, PackageDirectory):
            source = directory_source(
                self.request.path,
                package.name,
                found.path,
                editable=bool(found.editable),
                subdirectory=found.subdirectory,
            )
            return local_package(package.name, version or static_version(source), source, self.metadata)
        artifact = self._artifact(package, found)
        if isinstance(found, PackageWheel) and "content" in self.metadata.package("pip", package.name):
            return bundled_wheel(package.name, version, artifact, self.metadata)
        if isinstance(found, PackageArchive) and (artifact.is_wheel or artifact.url.startswith("file:")):
            source = Source(
                "archive", url=artifact.url, hash=artifact.digest, subdirectory=found.subdirectory
            )
            return local_package(
                package.name, version or version_of(artifact.filename), source, self.metadata
            )
        return LockedPackage(canonical_name(package.name), version, artifact)

    def _commit(self, package: Package, found: PackageVcs) -> Source:
        url = strip_credentials(found.url or "")
        reason = refusal(found.type, url, found.commit_id, found.subdirectory)
        if found.type != "git" or not url or reason is not None:
            raise LockError(
                f"{self.request.path}: {package.name} comes from {url or found.path} at commit "
                f"{found.commit_id[:80]!r}, which isn't fetched{f': {reason}' if reason else ''}.",
                hint="Lock it from a git URL, an index or a folder.",
            )
        return Source("vcs", url=url, vcs="git", commit=found.commit_id, subdirectory=found.subdirectory)

    def _artifact(self, package: Package, found: PackageArchive | PackageWheel | PackageSdist) -> Artifact:
        named = f"{package.name} {package.version or ''}".strip()
        sha256 = found.hashes.get("sha256")
        if not sha256:
            raise LockError(
                f"{self.request.path}: {named} has no sha256, so its file can't be checked.",
                hint="Lock again with hashes, such as by: uv export --format pylock.toml -o pylock.toml",
            )
        name = "" if isinstance(found, PackageArchive) else (found.name or "")
        return self.urls.artifact(
            named, found.url or found.path or "", f"sha256:{sha256.lower()}", filename=name, size=found.size
        )


def _remedy(pylock: Pylock, target: Target) -> str:
    if pylock.requires_python is not None and not pylock.requires_python.contains(target.python_version):
        return (
            f"Choose a base image whose Python is {pylock.requires_python} (--base), or lock again for "
            f"Python {target.minor}."
        )
    if pylock.created_by == "uv":
        return "Lock for Linux, too: `tool.uv.environments` in pyproject.toml limits what `uv lock` covers."
    return f"Lock again for {target.platform} and Python {target.minor}, with the tool: {pylock.created_by}"
