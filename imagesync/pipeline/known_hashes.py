"""Environment hashes, remembered by the input hashes of the builds that found them out.

A hash is remembered with the deviations from the local environment: another environment may have an image of
the same content without any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.store.layout import HASHES

if TYPE_CHECKING:
    from imagesync.plan.plan import Plan

_FORMAT = 3

DeviationDict = Mapping[str, Any]
"""A deviation as :meth:`imagesync.lock.lock.Deviation.to_dict` gives it."""


class KnownHash(NamedTuple):
    """The hash of an environment or of its packages image.

    Parameters
    ----------
    digest
        ``sha256:<hex>``.
    deviations
        By how much the content differs from the local environment.
    artifacts
        The digest of the artifacts that an image must have, as
        :attr:`~imagesync.lock.lock.Lock.artifacts_digest` gives it; empty if others of the same versions will
        do.
    imports
        Names of modules that must have been imported in an image.
    """

    digest: str
    deviations: tuple[DeviationDict, ...] = ()
    artifacts: str = ""
    imports: tuple[str, ...] = ()


def recall_hash(cache: Path, input_hash: str) -> KnownHash | None:
    """Return the hash that is remembered under *input_hash*, or ``None``; *cache* is the cache folder."""
    known = read_cache(_path(cache, input_hash), key=_FORMAT)
    if known is None:
        return None
    try:
        return _known_hash(*known)
    except (LookupError, TypeError, ValueError):
        return None  # damaged


def _known_hash(
    digest: str, deviations: Iterable[DeviationDict], artifacts: str, imports: Iterable[str]
) -> KnownHash:
    known = KnownHash(digest, tuple(deviations), artifacts, tuple(imports))
    if known.deviations:
        from imagesync.lock.lock import Deviation

        for entry in known.deviations:
            Deviation.from_dict(entry)
    if not all(isinstance(text, str) for text in (digest, artifacts, *known.imports)):
        raise TypeError
    return known


def remember_hash(cache: Path, input_hash: str, known: KnownHash) -> None:
    """Remember *known* under *input_hash*."""
    if recall_hash(cache, input_hash) != known:
        write_cache(_path(cache, input_hash), known, key=_FORMAT)


def joined_deviations(
    labelled: Iterable[DeviationDict], known: Iterable[DeviationDict], plan: Plan
) -> tuple[DeviationDict, ...]:
    """Return the deviations of an image that was found, from the environment of *plan*.

    Parameters
    ----------
    labelled
        The deviations in the image's label, from the environment that it was built from.
    known
        The deviations of the image's content from the environment of *plan*.
    plan
        The plan.
    """
    joined = {(entry.get("name"), entry.get("manager")): entry for entry in _applicable(labelled, plan)}
    joined |= {(entry["name"], entry["manager"]): entry for entry in known}
    return tuple(joined.values())


def _applicable(labelled: Iterable[DeviationDict], plan: Plan) -> Iterator[DeviationDict]:
    """Yield the deviations from what is installed here, too; of a package that isn't, that it is new.

    What differs with the same version on both sides is a fact of the environment that the image was built
    from, such as an edited file: of the environment of *plan* that is known.
    """
    installed: dict[tuple[str, str], tuple[str, ...]] = {
        (package.manager, package.name): (package.version,) for package in plan.left_out
    }
    installed |= {("pip", package.name): (package.version,) for package in plan.packages}
    # The local side of a conda package may be its version and its build.
    installed |= {("conda", p.name): (p.version, f"{p.version} {p.build}") for p in plan.conda}
    for entry in labelled:
        here = installed.get((str(entry.get("manager")), str(entry.get("name"))), ("",))
        if entry.get("local") in here and entry.get("local") != entry.get("locked"):
            yield entry


def _path(cache: Path, input_hash: str) -> Path:
    return cache_path(cache / HASHES, "environment", input_hash)
