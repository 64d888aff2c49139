"""Subjects: what a level is chosen for, be it pip's or conda's.

What conda installed is one subject for all distributions that it provides, and goes by each of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from imagesync.core.names import canonical_name
from imagesync.scan.environment import CondaRecord, Environment, Manager, Package, SourceKind

# Who installed it, and its name there: one name may stand for two projects.
Key = tuple[Manager, str]


class Subject(NamedTuple):
    """A package of pip's or of conda's.

    Parameters
    ----------
    names
        Each name that a rule may call it by, in canonical form: conda's first.
    for_linux
        Whether what is installed here is a build for Linux.
    """

    key: Key
    names: tuple[str, ...]
    requested: bool | None
    for_linux: bool
    source: SourceKind = "index"


def subjects(environment: Environment) -> Iterator[Subject]:
    """Yield each package of *environment* once."""
    on_linux = environment.python.platform.startswith("linux")
    for package in environment.packages:
        if not package.conda:
            yield _of_package(package)
    for record in environment.conda:
        yield _of_record(record, on_linux=on_linux)


def conda_names(record: CondaRecord) -> tuple[str, ...]:
    """Return what *record* may be called, in canonical form: its own name, then its distributions'."""
    return tuple(dict.fromkeys((canonical_name(record.name), *record.distributions)))


def _of_package(package: Package) -> Subject:
    return Subject(
        key=("pip", package.name),
        names=(package.name,),
        requested=package.requested,
        for_linux=any("linux" in tag.rpartition("-")[2] for tag in package.tags),
        source=package.source.kind,
    )


def _of_record(record: CondaRecord, *, on_linux: bool) -> Subject:
    return Subject(
        key=("conda", record.name),
        names=conda_names(record),
        requested=bool(record.requested_spec),
        # A noarch package may still be one that only another platform has a use for, as appnope is.
        for_linux=record.subdir.startswith("linux") or (on_linux and record.subdir == "noarch"),
    )
