"""Resolving where packages are bound to indexes: alternatives in turn, and what comes in unasked."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import canonical_name
from imagesync.errors import UnsolvableError
from imagesync.indexes.pypi.index_configuration import binding_of
from imagesync.indexes.pypi.uv_files import requirement_name
from imagesync.lock.lock import LockedPackage
from imagesync.lock.resolvers.resolver import ResolutionRequest

if TYPE_CHECKING:
    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

# Gets a request, which alternatives to take, and the bound packages that come in beside its requirements.
Resolve = Callable[[ResolutionRequest, int, Collection[str]], tuple[LockedPackage, ...]]
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def resolve_bound(
    request: ResolutionRequest, indexes: IndexConfiguration, resolve: Resolve
) -> tuple[LockedPackage, ...]:
    """Return the packages that satisfy *request*, each bound one from its own index.

    Raises
    ------
    UnsolvableError
        Nothing satisfies it, or the one index of a package doesn't answer.
    """
    names = {name for line in request.requirements if (name := requirement_name(line))}
    bound = {name for name in names if binding_of(indexes.bound, name) is not None}
    _refuse_silent(bound, indexes)
    attempts = max((_alternatives(name, indexes) for name in bound), default=1)
    for attempt in range(attempts - 1):
        with suppress(UnsolvableError):
            return _with_dependencies(request, indexes, resolve, bound, attempt)
    return _with_dependencies(request, indexes, resolve, bound, attempts - 1)


def _alternatives(name: str, indexes: IndexConfiguration) -> int:
    binding = binding_of(indexes.bound, name)
    return len(binding.choices) if binding is not None else 1


def _with_dependencies(
    request: ResolutionRequest,
    indexes: IndexConfiguration,
    resolve: Resolve,
    asked: Collection[str],
    attempt: int,
) -> tuple[LockedPackage, ...]:
    """Resolve again for as long as bound packages come in that weren't asked of their index."""
    if not request.dependencies:
        return resolve(request, attempt, ())
    named = {canonical_name(binding.package) for binding in indexes.bound if "*" not in binding.package}
    besides: set[str] = set()
    while True:
        # Until it is known that they come in, other indexes may be asked; nothing of theirs is run.
        unknown = sorted(named - besides - set(asked))
        wheels_only = tuple(dict.fromkeys((*request.wheels_only, *unknown)))
        try:
            found = resolve(replace(request, wheels_only=wheels_only), attempt, besides)
        except UnsolvableError as error:
            words = (canonical_name(word.rstrip("._-")) for word in _WORD.findall(error.message))
            more = _bound(words, indexes) - besides - set(asked)
            if not more:
                raise
        else:
            more = _bound((package.name for package in found), indexes) - besides - set(asked)
            if not more:
                return found
        _refuse_silent(more, indexes)
        besides |= more


def _bound(names: Iterable[str], indexes: IndexConfiguration) -> set[str]:
    """Return those of *names* that are bound to an index."""
    return {name for name in names if binding_of(indexes.bound, name) is not None}


def _refuse_silent(names: Iterable[str], indexes: IndexConfiguration) -> None:
    for name in sorted(names):
        binding = binding_of(indexes.bound, name)
        if binding is not None and not binding.choices:
            raise UnsolvableError(f"{name} comes from an index of its own, and that doesn't answer")
