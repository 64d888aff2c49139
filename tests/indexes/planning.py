"""Plans made by hand, for tests of locks."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace

from packaging.utils import canonicalize_name
from packaging.version import Version

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.lock.lock import Target
from imagesync.plan.plan import LeftOut, Plan, PlannedPackage
from imagesync.plan.specifiers import compatible, exact
from imagesync.scan.environment import Interpreter, Package, Source

# pip-tools locks for the interpreter that it runs in, so that is the target of these plans.
VERSION = platform.python_version()
TARGET = Target(LINUX_AMD64, VERSION, (2, 36))


def installed(
    name: str,
    version: str,
    *,
    level: Level = Level.COMPATIBLE,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    extras: tuple[str, ...] = (),
    source: Source | None = None,
) -> PlannedPackage:
    """Return the planned entry of an installed package."""
    source = source or Source()
    package = Package(
        name=canonicalize_name(name),
        version=version,
        source=source,
        requires=tuple(requires),
        requires_python=requires_python,
    )
    ranged = level is Level.COMPATIBLE and source.kind == "index"
    specifier = (compatible if ranged else exact)(Version(version))
    return PlannedPackage(
        package.name, version, level, specifier, "as a test says", source, extras=extras, installed=package
    )


def added(name: str, specifier: str = "", *, extras: tuple[str, ...] = ()) -> PlannedPackage:
    """Return the planned entry of a package that only the cluster gets."""
    return PlannedPackage(
        canonicalize_name(name), "", Level.COMPATIBLE, specifier, "added", requested=True, extras=extras
    )


def plan_of(
    *packages: PlannedPackage,
    strict: bool = False,
    python: str = VERSION,
    platform_name: str = "linux-x86_64",
    left_out: Sequence[LeftOut] = (),
) -> Plan:
    """Return a plan of *packages*, with Python among them; those of a strict plan are exact or closer."""
    interpreter = Interpreter("cpython", python, platform_name, "", "", "", "", libc="glibc 2.36")
    entry = PlannedPackage(
        canonicalize_name("python"), python, Level.CRITICAL, f"=={python}", "Python itself"
    )
    if strict:
        packages = tuple(
            replace(package, strict=True, level=Level.EXACT)
            for package in packages
            if package.level is not Level.CRITICAL
        )
    return Plan(
        interpreter,
        tuple(sorted((entry, *packages), key=lambda package: package.name)),
        left_out=tuple(left_out),
        strict=strict,
    )
