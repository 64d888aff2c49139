"""Consistency of conda's packages: whether what their records ask for is installed, and will do.

conda keeps environments consistent; ``--force``, an interrupted change or pip doesn't.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Protocol

from imagesync.core.names import canonical_name
from imagesync.plan.checks.conflict import Conflict
from imagesync.scan.environment import CondaRecord, Environment

_PLAIN = re.compile(r"([a-zA-Z0-9_.-]+)(?:\s+([^\s\[]+))?(?:\s+([^\s\[]+))?\s*\Z")
_NUMBERS = re.compile(r"([0-9]+(?:\.[0-9]+)*)(\.post[0-9]+)?")
# An upper bound that leaves pre-releases out, as conda-build writes them: <2.0a0, <2.0.0a0.
_BOUND = re.compile(r"(>=|<=|==|!=|~=|>|<|=|)([0-9]+(?:\.[0-9]+)*?)(?:\.0)?(a0?|\.?\*|)")


class Build(Protocol):
    """A build of a conda package, installed or in a channel."""

    @property
    def name(self) -> str:
        """Return its conda name."""

    @property
    def version(self) -> str:
        """Return its version."""

    @property
    def build(self) -> str:
        """Return its build string."""

    @property
    def build_number(self) -> int:
        """Return the number of its build."""

    @property
    def subdir(self) -> str:
        """Return the subdirectory of channels that it is in."""


def conda_inconsistencies(environment: Environment) -> Iterator[Conflict]:
    """Yield what conda's records ask for and don't get from one another.

    What pip has replaced isn't asked for, nor what a machine has and no channel.
    """
    records = {record.name: record for record in environment.conda}
    pip = {package.name for package in environment.packages if not package.conda}
    replaced = any(finding.code == "pip-over-conda" for finding in environment.findings)
    known: dict[tuple[str, str], bool] = {}
    for record in environment.conda:
        for line, required in (
            *((d, True) for d in record.depends),
            *((c, False) for c in record.constrains),
        ):
            name = line.partition(" ")[0].partition("[")[0]
            if name.startswith("__"):
                continue
            there = records.get(name)
            if there is None:
                if required and not replaced and canonical_name(name) not in pip:
                    yield _conflict(record, line, name, None, environment)
            elif not known.setdefault((line, name), meets(there, line)):
                yield _conflict(record, line, name, there.version, environment)


def _conflict(
    record: CondaRecord, line: str, name: str, installed: str | None, environment: Environment
) -> Conflict:
    command = ("conda", "install", "--prefix", environment.python.prefix, line)
    return Conflict(
        package=canonical_name(record.name),
        version=record.version,
        requirement=line,
        required=canonical_name(name),
        installed=installed,
        remedy=shlex.join(command),
    )


def meets(record: Build, line: str) -> bool:
    """Return whether *record* is what *line*, a match spec, asks for.

    Plain numbers are compared here, in a few microseconds; whatever else there is, and every refusal, is
    left to rattler, which takes 80 ms to import.
    """
    plain = _PLAIN.fullmatch(line)
    if plain is not None and _surely(record.version, plain[2] or "") and _is_build(record.build, plain[3]):
        return True
    from rattler import BuildString, MatchSpec, PackageRecord
    from rattler.exceptions import InvalidMatchSpecError, InvalidVersionError

    try:
        package = PackageRecord(
            name=record.name,
            version=record.version,
            build=BuildString.new_unchecked(record.build),
            build_number=record.build_number,
            subdir=record.subdir or "noarch",
        )
        return MatchSpec(line).matches(package)
    except (InvalidMatchSpecError, InvalidVersionError, ValueError):
        return True  # what nobody can read contradicts nothing


def _is_build(build: str, wanted: str | None) -> bool:
    return wanted is None or fnmatchcase(build, wanted)


def _surely(version: str, specifier: str) -> bool:
    """Return whether *version* meets *specifier* beyond doubt.

    >>> _surely("2022.5.1", ">=2022.5.1,<2022.5.2.0a0"), _surely("2022.1.0", ">=2022.5.1,<2022.5.2.0a0")
    (True, False)
    >>> _surely("3.11.7", "3.11.*"), _surely("1.1.1w", ">=1.1.1")
    (True, False)
    """
    if specifier in ("", "*"):
        return True
    plain = _NUMBERS.fullmatch(version)
    if plain is None or (plain[2] and re.search(r"==|<=|(?:^|[,|])[0-9]", specifier)):
        return False
    numbers = _numbers(plain[1])
    return any(all(_is_within(numbers, part) for part in one.split(",")) for one in specifier.split("|"))


def _is_within(version: tuple[int, ...], part: str) -> bool:
    bound = _BOUND.fullmatch(part)
    if bound is None:
        return False
    operator, number, ending = bound.groups()
    other = _numbers(number)
    series = version[: len(other)] == other
    same = _padded(version, other) == _padded(other, version)
    released = not ending.startswith("a")
    compared: Mapping[str, bool] = {
        ">=": version >= other or series,
        "<": version < other and not series,
        "<=": not ending and _padded(version, other) <= _padded(other, version),
        "==": released and (series if ending else same),
        "=": released and series,
        "": released and (series if ending else same),
    }
    return compared.get(operator, False)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _padded(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return one + (0,) * (len(other) - len(one))
