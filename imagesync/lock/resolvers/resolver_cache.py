"""What indexes answered before: the file of a version doesn't change, so it is asked for once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.credentials import strip_credentials
from imagesync.indexes.pypi.uv_environment import UV_INDEXES
from imagesync.lock.lock import Artifact, LockedPackage, Target
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.store.failures import storing
from imagesync.store.local import file_stamp

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.indexes.pypi.pip_configuration import IndexConfiguration

_FORMAT = 1
# Files of a version are added at times, such as wheels for a new interpreter; so it isn't for ever.
_SECONDS = 30 * 86_400.0
_PIN = re.compile(r"(?P<name>[a-z0-9-]+)={2,3}(?P<version>[^\s;,*\[\]]+)")
_FOLDER = "answers"


class RememberingResolver:
    """A resolver that asks for exact versions once; see :class:`Resolver`.

    Only for versions that stand alone: what is resolved with dependencies is asked for each time, and so is
    what no index has. A file of this machine counts as long as it is the same.

    Parameters
    ----------
    root
        The cache folder; answers are in a folder of it.
    environ
        The environment variables that the resolver runs with: they may name indexes, too.
    """

    def __init__(self, resolver: Resolver, root: Path, environ: Mapping[str, str]) -> None:
        self._resolver = resolver
        self._root = root
        self._environ = environ

    @property
    def name(self) -> Literal["uv", "pip-tools"]:
        """Return the name of the resolver that is asked."""
        return self._resolver.name

    @property
    def indexes(self) -> IndexConfiguration:
        """Return the indexes of the resolver that is asked."""
        return self._resolver.indexes

    def silent_indexes(self, project: NormalizedName) -> tuple[str, ...]:
        """Return the indexes that don't answer now."""
        return self._resolver.silent_indexes(project)

    def without(self, urls: Collection[str]) -> RememberingResolver:
        """Return a resolver of the other indexes, with answers of its own."""
        return RememberingResolver(self._resolver.without(urls), self._root, self._environ)

    def check(self, target: Target) -> None:
        """Return for the targets that the resolver can answer for."""
        self._resolver.check(target)

    def resolve(self, request: ResolutionRequest) -> tuple[LockedPackage, ...]:
        """Return the packages that satisfy *request*, those that are remembered without asking."""
        pins = {line: match for line in request.requirements if (match := _PIN.fullmatch(line))}
        alone = not (request.dependencies or request.vendored or request.constraints)
        if not alone or len(pins) < len(request.requirements):
            return self._resolver.resolve(request)
        answers = _Answers(self._file(request.target))
        known = {line: found for line in pins if (found := answers.get(line)) is not None}
        unknown = tuple(line for line in pins if line not in known)
        if not unknown:
            return tuple(known.values())
        fresh = self._resolver.resolve(replace(request, requirements=unknown))
        asked = {match["name"]: line for line, match in pins.items() if line not in known}
        with storing(self._root):
            answers.add({asked[package.name]: package for package in fresh if package.name in asked})
        return (*known.values(), *fresh)

    def _file(self, target: Target) -> Path:
        indexes = self.indexes
        places = [
            *indexes.public_urls,
            *indexes.find_links,
            *(self._environ.get(key, "") for key in UV_INDEXES),
        ]
        public = [strip_credentials(url) for place in places for url in place.split()]
        key = [self.name, public, indexes.no_index, asdict(target)]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._root / _FOLDER / f"{digest}.json"


class _Answers:
    """One file: requirement to what an index has for it, and when it said so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)

    def get(self, requirement: str) -> LockedPackage | None:
        entry = self._entries.get(requirement)
        try:
            if entry is None or not 0 <= time.time() - entry["time"] < _SECONDS:
                return None
            artifact = Artifact(**entry["artifact"])
            if entry["stamp"] != file_stamp(artifact.url):
                return None
            return LockedPackage(entry["name"], entry["version"], artifact)
        except (LookupError, TypeError):
            return None

    def add(self, found: Mapping[str, LockedPackage]) -> None:
        now = time.time()
        for requirement, package in found.items():
            self._entries[requirement] = {
                "time": now,
                "name": package.name,
                "version": package.version,
                "artifact": asdict(package.artifact),
                "stamp": file_stamp(package.artifact.url),
            }
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps({"format": _FORMAT, "answers": self._entries}), "utf-8")
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(path.read_text("utf-8"))
        return dict(document["answers"]) if document["format"] == _FORMAT else {}
    except (OSError, ValueError, LookupError, TypeError):
        # Half a note is no note.
        return {}


def forget_answers(root: Path) -> None:
    """Forget what indexes answered; *root* is the cache folder."""
    for path in (root / _FOLDER).glob("*"):
        path.unlink(missing_ok=True)
