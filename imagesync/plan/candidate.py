"""Candidates: the installed packages, pip's and conda's, that levels are chosen for.

A conda package is one candidate for all distributions that it provides, and answers to each of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from imagesync.core.names import canonical_name
from imagesync.scan.environment import CondaRecord, Environment, Manager, Package, SourceKind

# The package manager and the name: one name may be two projects.
Key = tuple[Manager, str]


class Candidate(NamedTuple):
    """An installed package whose level is to be chosen.

    Parameters
    ----------
    key
        The package manager and the name.
    names
        The names that rules may use for it, in canonical form; the conda name comes first.
    requested
        Whether the user requested it; ``None`` if nothing records it.
    for_linux
        Whether the installed build is one for Linux.
    source
        The kind of source that it was installed from.
    """

    key: Key
    names: tuple[str, ...]
    requested: bool | None
    for_linux: bool
    source: SourceKind = "index"


def candidates(environment: Environment) -> Iterator[Candidate]:
    """Yield the packages of *environment*, each once."""
    on_linux = environment.python.platform.startswith("linux")
    for package in environment.packages:
        if not package.conda:
            yield _pip_candidate(package)
    for record in environment.conda:
        yield _conda_candidate(record, on_linux=on_linux)


def conda_names(record: CondaRecord) -> tuple[str, ...]:
    """Return the names of *record* in canonical form: the conda name, then the names of its distributions."""
    return tuple(dict.fromkeys((canonical_name(record.name), *record.distributions)))


def _pip_candidate(package: Package) -> Candidate:
    return Candidate(
        key=("pip", package.name),
        names=(package.name,),
        requested=package.requested,
        for_linux=any("linux" in tag.rpartition("-")[2] for tag in package.tags),
        source=package.source.kind,
    )


def _conda_candidate(record: CondaRecord, *, on_linux: bool) -> Candidate:
    return Candidate(
        key=("conda", record.name),
        names=conda_names(record),
        requested=bool(record.requested_spec),
        # A noarch package may still be of use on another platform only, as appnope is.
        for_linux=record.subdir.startswith("linux") or (on_linux and record.subdir == "noarch"),
    )
