"""Environments without files, and the plans of them, for tests of planning."""

from __future__ import annotations

from dataclasses import replace

from packaging.utils import canonicalize_name

from imagesync.plan.plan import LeftOut, Plan
from imagesync.scan.environment import Interpreter, Package

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")


def distribution(pin: str, *requires: str, requested: bool | None = None, **kwargs: object) -> Package:
    """Return an installed distribution, from ``name==version``."""
    name, _, version = pin.partition("==")
    package = Package(canonicalize_name(name), version, requires=requires, requested=requested)
    return replace(package, **kwargs)  # type: ignore[arg-type]


def left_out(plan: Plan, name: str) -> LeftOut:
    """Return the entry of a package that *plan* leaves out."""
    return next(package for package in plan.left_out if package.name == name)


def codes(plan: Plan) -> list[str]:
    """Return the codes of the findings of *plan*."""
    return [finding.code for finding in plan.findings]
