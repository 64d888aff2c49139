"""Pins, of ``conda-meta/pinned`` and ``pinned_packages``: limits of whatever versions have to be chosen."""

from __future__ import annotations

from collections.abc import Iterable

from imagesync.plan.checks.conda_consistency import Build, meets
from imagesync.plan.plan import Plan
from imagesync.scan.conda.history import spec_name


def pins_of(plan: Plan) -> tuple[str, ...]:
    """Return the pins that count for *plan*, as match specs.

    One that the installed package itself doesn't meet does not: the image should have what is installed.
    """
    records = {package.name: package.record for package in plan.conda if package.record is not None}
    return tuple(
        pin
        for pin in plan.pinned
        if (name := spec_name(pin)) and (name not in records or meets(records[name], pin))
    )


def pins_for(name: str, pins: Iterable[str]) -> tuple[str, ...]:
    """Return those of *pins* that are about the conda package *name*."""
    return tuple(pin for pin in pins if spec_name(pin) == name)


def keeps(build: Build, pins: Iterable[str]) -> bool:
    """Return whether *build* meets those of *pins* that are about it."""
    return all(meets(build, pin) for pin in pins_for(build.name, pins))
