"""A cache of answers of indexes: the artifact of a version doesn't change, so it is requested once."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.credentials import strip_credentials
from imagesync.core.files import make_way
from imagesync.indexes.pypi.index_problems import IndexProblem
from imagesync.indexes.pypi.uv_environment import UV_INDEXES
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import LockedPackage
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.store.source import file_stamp

if TYPE_CHECKING:
    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

_FORMAT = 3
# Answers expire, because files are added to versions, such as wheels for a new interpreter.
_SECONDS = 30 * 86_400.0
_PIN = re.compile(r"(?P<name>[a-z0-9-]+)={2,3}(?P<version>[^\s;,*\[\]]+)")


class CachingResolver:
    """A resolver that requests exact versions once; see :class:`Resolver`.

    Requests with dependencies and missing versions aren't cached. An answer with a local file is valid as
    long as the file is unchanged.

    Parameters
    ----------
    resolver
        The resolver whose answers are cached.
    folder
        The folder of the cache.
    environ
        Environment variables of the resolver, which may name indexes, too.
    """

    def __init__(self, resolver: Resolver, folder: Path, environ: Mapping[str, str]) -> None:
        self._resolver = resolver
        self._folder = folder
        self._environ = environ

    @property
    def name(self) -> Literal["uv", "pip-tools"]:
        """Return the name of the cached resolver."""
        return self._resolver.name

    @property
    def indexes(self) -> IndexConfiguration:
        """Return the indexes of the cached resolver."""
        return self._resolver.indexes

    def index_problems(self, project: str) -> tuple[IndexProblem, ...]:
        """Return the indexes that can't be used; see :class:`Resolver`."""
        return self._resolver.index_problems(project)

    def refusals(self) -> tuple[IndexProblem, ...]:
        """Return the indexes that refused to answer; none are asked where all answers are cached."""
        return self._resolver.refusals()

    def without(self, urls: Collection[str]) -> CachingResolver:
        """Return a resolver of the other indexes, whose answers are cached separately."""
        return CachingResolver(self._resolver.without(urls), self._folder, self._environ)

    def check(self, target: Target) -> None:
        """Check that the resolver supports *target*; see :class:`Resolver`."""
        self._resolver.check(target)

    def resolve(self, request: ResolutionRequest) -> tuple[LockedPackage, ...]:
        """Return the packages that satisfy *request*, from the cache if possible."""
        pins = {line: match for line in request.requirements if (match := _PIN.fullmatch(line))}
        alone = not (request.dependencies or request.vendored or request.constraints or request.hashes)
        if not alone or len(pins) < len(request.requirements):
            return self._resolver.resolve(request)
        answers = _Answers(self._file(request.target))
        known = {line: found for line in pins if (found := answers.get(line)) is not None}
        unknown = tuple(line for line in pins if line not in known)
        if not unknown:
            return tuple(known.values())
        fresh = self._resolver.resolve(replace(request, requirements=unknown))
        requested = {match["name"]: line for line, match in pins.items() if line not in known}
        if self._resolver.refusals():
            # The index that refused may have another file, once it doesn't refuse.
            return (*known.values(), *fresh)
        answers.add({requested[package.name]: package for package in fresh if package.name in requested})
        return (*known.values(), *fresh)

    def _file(self, target: Target) -> Path:
        indexes = self.indexes
        variables = [self._environ.get(key, "") for key in UV_INDEXES]
        public = [strip_credentials(url) for source in variables for url in source.split()]
        public += indexes.public_urls
        return cache_path(self._folder, self.name, public, *indexes.file_choice, target.to_dict())


class _Answers:
    """One cache file: the answer of the indexes for each requirement, and its time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        known = read_cache(path, key=_FORMAT)
        self._entries: dict[str, dict[str, Any]] = known if isinstance(known, dict) else {}

    def get(self, requirement: str) -> LockedPackage | None:
        entry = self._entries.get(requirement)
        try:
            if entry is None or not 0 <= time.time() - entry["time"] < _SECONDS:
                return None
            package = LockedPackage.from_dict(entry["package"])
            return package if entry["stamp"] == file_stamp(package.artifact.url) else None
        except (LookupError, TypeError, ValueError, AttributeError):
            return None

    def add(self, found: Mapping[str, LockedPackage]) -> None:
        now = time.time()
        for requirement, package in found.items():
            self._entries[requirement] = {
                "time": now,
                "package": package.to_dict(),
                "stamp": file_stamp(package.artifact.url),
            }
        write_cache(self._path, self._entries, key=_FORMAT)


def clear_answers(folder: Path) -> None:
    """Remove all answers in *folder*."""
    for path in folder.glob("*"):
        make_way(path)
        path.unlink(missing_ok=True)
