"""Conda match specs: whether a build meets one, and the pins that limit every choice of a version.

Pins come from ``conda-meta/pinned`` and from conda's setting ``pinned_packages``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Protocol

from imagesync.plan.plan import Plan
from imagesync.scan.conda.conda_meta import spec_name

_PLAIN = re.compile(r"([a-zA-Z0-9_.-]+)(?:\s+([^\s\[]+))?(?:\s+([^\s\[]+))?\s*\Z")
_NUMBERS = re.compile(r"([0-9]+(?:\.[0-9]+)*)(\.post[0-9]+)?")
# conda-build excludes pre-releases by bounds such as <2.0a0 and <2.0.0a0.
_BOUND = re.compile(r"(>=|<=|==|!=|~=|>|<|=|)([0-9]+(?:\.[0-9]+)*?)(?:\.0)?(a0?|\.?\*|)")


class Build(Protocol):
    """A build of a conda package: installed, or in a channel."""

    @property
    def name(self) -> str:
        """Return the conda name."""

    @property
    def version(self) -> str:
        """Return the version."""

    @property
    def build(self) -> str:
        """Return the build string."""

    @property
    def build_number(self) -> int:
        """Return the build number."""

    @property
    def subdir(self) -> str:
        """Return the subdirectory of its channel, such as ``linux-64``."""


def meets(record: Build, line: str) -> bool:
    """Return True if *record* meets the match spec *line*.

    Plain version numbers are compared here in a few microseconds. rattler, which takes 80 ms to import,
    decides everything else, and confirms each mismatch.
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
        return True  # an unreadable spec excludes nothing


def pins_of(plan: Plan) -> tuple[str, ...]:
    """Return the pins of *plan* that the installed packages meet, as match specs.

    The others would keep the installed version itself out of the image.
    """
    records = {package.name: package.record for package in plan.conda if package.record is not None}
    return tuple(
        pin
        for pin in plan.pinned
        if (name := spec_name(pin)) and (name not in records or meets(records[name], pin))
    )


def pins_for(name: str, pins: Iterable[str]) -> tuple[str, ...]:
    """Return the *pins* of the conda package *name*."""
    return tuple(pin for pin in pins if spec_name(pin) == name)


def meets_pins(build: Build, pins: Iterable[str]) -> bool:
    """Return True if *build* meets the *pins* of its package."""
    return all(meets(build, pin) for pin in pins_for(build.name, pins))


def _is_build(build: str, wanted: str | None) -> bool:
    return wanted is None or fnmatchcase(build, wanted)


def _surely(version: str, specifier: str) -> bool:
    """Return True if plain numbers show that *version* meets *specifier*; False leaves it open.

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
