"""Reading ``pixi.lock`` with py-rattler."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from imagesync.core.credentials import redact
from imagesync.core.names import canonical_name
from imagesync.core.strict_json import load_json
from imagesync.errors import LockError, UsageError
from imagesync.lock.conda.repodata import locked
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.lock_entries import (
    EntryUrls,
    check_entry,
    chosen_names,
    local_package,
    refuse_choice,
    refuse_duplicates,
)
from imagesync.lock.lockfile.models import ReadLock, ReadRequest, read_text
from imagesync.lock.lockfile.source_trees import directory_source, static_version
from imagesync.scan.distributions.direct_url import refusal
from imagesync.scan.environment import Source

_WORKER = Path(__file__).with_name("pixi_worker.py")
_SECONDS = 60
_DEFAULT = "default"
_VERSION = re.compile(r"^version:\s*(\d+)", re.MULTILINE)
_OLDEST = 6
_GIT = re.compile(r"git\+(?P<url>[^?#]+)(?:\?(?P<query>[^#]*))?#(?P<commit>[0-9a-f]{40,64})")
_FILES = (".whl", ".tar.gz", ".zip")


def read(request: ReadRequest) -> ReadLock:
    """Return the lock of one environment of a ``pixi.lock``, version 6 or later."""
    path, selection = request.path, request.selection
    refuse_choice(path, "group", (*selection.groups, *selection.extras))
    environments = _environments(path, request.platform.subdir)
    (name,) = chosen_names(path, "environment", (selection.environment or _DEFAULT,), environments)
    chosen = environments[name]
    _refuse_other_platform(request, name, chosen["platforms"])
    reader = _Reader(request)
    lock = reader.lock(chosen)
    names = {package["name"] for package in chosen["packages"]}
    all_names = {package["name"] for each in environments.values() for package in each["packages"]}
    return ReadLock(
        path=path,
        lock=lock,
        interpreter_version=lock.target.python_version,
        left_out=tuple(sorted(all_names - names)),
        others=tuple(sorted(environments.keys() - {name})),
        private=reader.urls.private,
    )


def _environments(path: Path, subdir: str) -> Mapping[str, Any]:
    """Return the environments of a lock file with their packages for *subdir*; see ``pixi_worker``."""
    found = _VERSION.search(read_text(path))
    if found is None:
        raise UsageError(
            f"{path} isn't a lock file of pixi: it has no version.", hint="Lock again: pixi lock"
        )
    if int(found[1]) < _OLDEST:
        raise UsageError(
            f"{path} is of version {found[1]} of its format, and imagesync reads version {_OLDEST} "
            "and later.",
            hint="Lock again with a newer pixi: pixi lock",
        )
    command = [sys.executable, "-B", str(_WORKER), str(path.absolute()), subdir]
    try:
        finished = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=_SECONDS
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = str(error.stderr or "").strip().splitlines()
        reason = lines[-1:] or ["it gave no answer"]
        raise UsageError(
            f"{path} isn't a lock file that this py-rattler can read: {redact(reason[0])[:300]}",
            hint="Lock again: pixi lock. A lock file of a newer pixi needs a newer py-rattler.",
        ) from error
    environments: Mapping[str, Any] = load_json(finished.stdout)
    return environments


def _refuse_other_platform(request: ReadRequest, name: str, platforms: Sequence[str]) -> None:
    subdir = request.platform.subdir
    if subdir not in platforms:
        raise LockError(
            f"{request.path} has the environment {name!r} for {', '.join(platforms) or 'no platform'}, "
            f"and the image is for {subdir}.",
            hint=f"Lock for it, too: pixi workspace platform add {subdir}",
        )


class _Reader:
    def __init__(self, request: ReadRequest) -> None:
        self.request = request
        self.urls = EntryUrls(request.path, request.environ)

    def lock(self, environment: Mapping[str, Any]) -> Lock:
        """Return the lock of an environment."""
        path = self.request.path
        conda, pip = [], []
        for package in environment["packages"]:
            if package["kind"] == "source":
                raise LockError(
                    f"{path}: {package['name']} is a conda package that pixi builds from "
                    f"{package['location']}, which imagesync doesn't do.",
                    hint="Build it into a channel (pixi build), and lock it from there.",
                )
            if package["kind"] == "conda":
                conda.append(self._conda(package["record"]))
            else:
                pip.append(self._pip(package))
        refuse_duplicates(path, (package.name for package in conda))
        refuse_duplicates(path, (package.name for package in pip))
        python = next((package.version for package in conda if package.name == "python"), "")
        return Lock(
            target=Target(self.request.platform, python, (0, 0)),
            packages=tuple(sorted((p for p in pip if isinstance(p, LockedPackage)), key=lambda p: p.name)),
            vendored=tuple(sorted((p for p in pip if isinstance(p, VendoredPackage)), key=lambda p: p.name)),
            conda=tuple(sorted(conda, key=lambda package: package.name)),
            channels=tuple(self.urls.public(url).rstrip("/") for url in environment["channels"]),
        )

    def _conda(self, record: Mapping[str, Any]) -> LockedConda:
        path, named = self.request.path, f"{record['name']} {record['version']}"
        check_entry(path, record["name"], record["version"], is_conda=True)
        check_entry(path, record["name"], record["build"], is_conda=True)
        if not record.get("sha256") and not record.get("md5"):
            raise LockError(
                f"{path}: {named} has no digest, so its archive can't be checked.",
                hint="Lock again: pixi lock",
            )
        digest = f"sha256:{record['sha256']}" if record.get("sha256") else ""
        artifact = self.urls.artifact(named, record["url"], digest, size=record.get("size"))
        channel = artifact.url.rsplit("/", 2)[0]
        return locked({**record, "url": artifact.url, "fn": artifact.filename, "channel": channel})

    def _pip(self, package: Mapping[str, str]) -> LockedPackage | VendoredPackage:
        path, location = self.request.path, package["location"]
        name, version = canonical_name(package["name"]), package["version"]
        check_entry(path, package["name"], version)
        if match := _GIT.fullmatch(location):
            return self._commit(name, version, match)
        bare = location.partition("#")[0]
        if "://" not in bare and not bare.endswith(_FILES):
            source = directory_source(path, name, unquote(bare), editable=True)
            return local_package(name, version or static_version(source), source)
        if not package["sha256"]:
            raise LockError(
                f"{path}: {name} {version} has no sha256, so its file can't be checked.",
                hint="Lock again: pixi lock",
            )
        artifact = self.urls.artifact(f"{name} {version}", location, f"sha256:{package['sha256']}")
        return LockedPackage(name, version, artifact)

    def _commit(self, name: str, version: str, match: re.Match[str]) -> VendoredPackage:
        query = dict(part.partition("=")[::2] for part in (match["query"] or "").split("&"))
        subdirectory = unquote(query.get("subdirectory", "")) or None
        url = self.urls.public(match["url"])
        reason = refusal("git", url, match["commit"], subdirectory)
        if reason is not None:
            raise LockError(
                f"{self.request.path}: {name} isn't fetched: {reason}.", hint="Lock it from another URL."
            )
        source = Source("vcs", url=url, vcs="git", commit=match["commit"], subdirectory=subdirectory)
        return local_package(name, version, source)
