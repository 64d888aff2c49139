"""Reading explicit files (``@EXPLICIT``) of conda, micromamba, conda-lock and imagesync.

Each line is the URL of an archive with its digest: ``#<md5>`` of conda, ``#sha256:<hex>`` of micromamba.
pip's packages are comments: ``# pip NAME @ URL#sha256=<hex>`` as of conda-lock, and for files beside the lock
file ``# pip ./wheels/FILE --hash=sha256:<hex>``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import unquote

from imagesync.core.names import canonical_name
from imagesync.errors import LockError
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.custom_metadata import HEAD, CustomMetadata
from imagesync.lock.lockfile.lock_entries import (
    EntryUrls,
    bundled_wheel,
    check_entry,
    is_relative,
    local_package,
    name_and_version,
    place_of,
    recorded_target,
    refuse_choice,
    refuse_duplicates,
    version_of,
)
from imagesync.lock.lockfile.models import ReadLock, ReadRequest, read_text
from imagesync.scan.environment import Source

_ARCHIVE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)\.(conda|tar\.bz2)")
_DIGEST = re.compile(r"(?P<md5>[0-9a-f]{32})|sha256:(?P<sha256>[0-9a-f]{64})|(?P<bare>[0-9a-f]{64})")
_PIP = re.compile(r"# pip (?:(?P<name>\S+) @ )?(?P<url>[^#\s]+)(?P<rest>.*)")
_PIP_DIGEST = re.compile(r"(?:#|--hash=|\s)sha256[=:](?P<sha256>[0-9a-f]{64})\b")
_METADATA = re.compile(rf"# (?P<key>{HEAD}(\.\S+)?): (?P<value>\{{.*)")
_PLATFORM = re.compile(r"^# platform: (\S+)\s*$", re.MULTILINE)


def read(request: ReadRequest) -> ReadLock:
    """Return the lock of an explicit file."""
    path, text = request.path, read_text(request.path)
    selection = request.selection
    refuse_choice(path, "group", (*selection.groups, *selection.extras))
    refuse_choice(path, "environment", filter(None, (selection.environment,)))
    subdir = request.platform.subdir
    stated = _PLATFORM.search(text)
    if stated is not None and stated[1] != subdir:
        raise _other_platform(request, stated[1])
    found = (match for line in text.splitlines() if (match := _METADATA.fullmatch(line)))
    metadata = CustomMetadata({match["key"]: match["value"] for match in found})
    read = _Reader(request, metadata).read(text)
    if metadata.is_ours and read.lock.digest != metadata.head.get("digest"):
        return _Reader(request, metadata.changed()).read(text)
    return read


def _other_platform(request: ReadRequest, subdir: str) -> LockError:
    wanted = request.platform.subdir
    return LockError(
        f"{request.path} is locked for {subdir}, and the image is for {wanted}.",
        hint=f"Lock for it: conda-lock lock --kind explicit --platform {wanted}",
    )


class _Reader:
    def __init__(self, request: ReadRequest, metadata: CustomMetadata) -> None:
        self.request, self.metadata = request, metadata
        self.urls = EntryUrls(request.path, request.environ)

    def read(self, text: str) -> ReadLock:
        conda: list[LockedConda] = []
        pip: list[LockedPackage | VendoredPackage] = []
        for line in map(str.strip, text.splitlines()):
            if match := _PIP.fullmatch(line):
                pip.append(self._pip(match["name"] or "", match["url"], match["rest"]))
            elif line and not line.startswith(("#", "@")):
                package = self._conda(line)
                conda += [package] if package.name not in self.metadata.not_in_image else []
        refuse_duplicates(self.request.path, [package.name for package in conda])
        refuse_duplicates(self.request.path, [package.name for package in pip])
        python = next((package.version for package in conda if package.name == "python"), "")
        target = recorded_target(self.request.path, self.metadata, python, self.request.platform)
        lock = Lock(
            target=target,
            packages=tuple(sorted((p for p in pip if isinstance(p, LockedPackage)), key=lambda p: p.name)),
            vendored=tuple(sorted((p for p in pip if isinstance(p, VendoredPackage)), key=lambda p: p.name)),
            deviations=self.metadata.deviations(),
            resolver=self.metadata.head.get("resolver", "uv"),
            conda=tuple(sorted(conda, key=lambda package: package.name)),
            channels=tuple(dict.fromkeys(package.channel for package in conda)),
        )
        return ReadLock(
            path=self.request.path,
            lock=lock,
            custom_metadata=self.metadata,
            interpreter_version=target.python_version,
            private=self.urls.private,
        )

    def _conda(self, line: str) -> LockedConda:
        path = self.request.path
        url, _, digest = line.partition("#")
        name_of = _ARCHIVE.fullmatch(unquote(url.rpartition("/")[2]))
        if name_of is None:
            raise LockError(
                f"{path} has the line {self.urls.public(line)[:120]!r}, which isn't the URL of a conda "
                "package.",
                hint="Correct it, or lock again.",
            )
        name, version = name_of["name"], name_of["version"]
        check_entry(path, name, version, is_conda=True)
        known = _DIGEST.fullmatch(digest)
        if known is None:
            raise LockError(
                f"{path}: {name} {version} has no digest, so its archive can't be checked.",
                hint="Write it with digests: conda list --explicit --sha256 (or --md5)",
            )
        sha256 = known["sha256"] or known["bare"]
        artifact = self.urls.artifact(f"{name} {version}", url, f"sha256:{sha256}" if sha256 else "")
        facts = self.metadata.conda_package(name)
        artifact = replace(artifact, size=facts.pop("size", None))
        place = {**place_of(artifact), **facts}
        if place["subdir"] not in (self.request.platform.subdir, "noarch"):
            raise _other_platform(self.request, place["subdir"])
        entry = {"name": name, "version": version, "md5": known["md5"] or "", **place}
        return LockedConda.from_dict({**entry, "artifact": artifact.to_dict()})

    def _pip(self, name: str, url: str, rest: str) -> LockedPackage | VendoredPackage:
        path = self.request.path
        digest = _PIP_DIGEST.search(rest)
        name = name or name_and_version(unquote(url.rpartition("/")[2]))[0]
        check_entry(path, name, "")
        if digest is None:
            raise LockError(
                f"{path}: {name} has no sha256, so its file can't be checked.",
                hint="Lock again with the newest conda-lock: conda-lock lock --kind explicit",
            )
        artifact = self.urls.artifact(name, url, f"sha256:{digest['sha256']}")
        version = version_of(artifact.filename)
        known = self.metadata.package("pip", canonical_name(name))
        if "content" in known and is_relative(url):
            return bundled_wheel(name, version, artifact, self.metadata)
        if artifact.is_wheel and is_relative(url) and not self.metadata.is_ours:
            source = Source("archive", url=artifact.url, hash=artifact.digest)
            return local_package(name, version, source)
        return LockedPackage(canonical_name(name), version, replace(artifact, size=known.get("size")))
