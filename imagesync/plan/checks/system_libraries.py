# Paths stay strings: there are thousands of them.
# ruff: noqa: PTH110, PTH118
"""System libraries and programs that packages need and a base image lacks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagesync.core.platforms import runs_on
from imagesync.plan.checks.apt_packages import LIBRARIES, PROGRAMS
from imagesync.plan.checks.imported_extensions import loaded_extensions
from imagesync.plan.checks.shared_libraries import Linker, PackageFiles, installed_files, wheel_files
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Finding, Severity


@dataclass(frozen=True)
class SystemFiles:
    """What a system has outside of any Python environment.

    Parameters
    ----------
    libraries
        Names of the shared libraries that the dynamic linker finds.
    programs
        Names of the programs on ``PATH``.
    """

    libraries: frozenset[str]
    programs: frozenset[str]

    @classmethod
    def from_dict(cls, document: Mapping[str, Iterable[str]]) -> SystemFiles:
        """Return the files that the program ``standalone/image/system_files.py`` lists."""
        return cls(frozenset(document["libraries"]), frozenset(document["programs"]))


def local_system_files() -> SystemFiles:
    """Return the libraries and programs of this machine."""
    from imagesync.standalone.image.system_files import system_files

    return SystemFiles.from_dict(system_files())


def check_system_files(
    plan: Plan, *, here: SystemFiles, there: SystemFiles, base: str, cache: Path | None = None
) -> tuple[Finding, ...]:
    """Return the findings about libraries and programs that packages of *plan* need and the base image lacks.

    A library counts if it resolves here, or if importing the top level of its package needs it. The severity
    is an error in the latter case. Programs are remarks. Libraries are checked only where this machine's
    binaries run in the image.

    Parameters
    ----------
    plan
        The plan.
    here, there
        The files of this machine, and of the base image.
    base
        The reference of the base image, for messages.
    cache
        The folder of the cache; ``None`` for no cache.
    """
    programs = tuple(_missing_programs(plan, here, there, base))
    if not runs_on(plan.platform, local=plan.python.platform, libc=plan.python.libc):
        return programs
    packages = installed_files(plan, cache=cache)
    linker = Linker(packages, plan.python.prefix, here.libraries, there.libraries)
    return (*_missing_libraries(linker, base), *programs)


def check_wheels(
    wheels: Iterable[tuple[str, str, Path]], *, there: SystemFiles, base: str, cache: Path | None = None
) -> tuple[Finding, ...]:
    """Return the findings about libraries that wheels need on import and the base image lacks.

    For environments of other platforms, whose installed files say nothing about the image.

    Parameters
    ----------
    wheels
        Name, version and path of each.
    there
        The files of the base image.
    base, cache
        As for :func:`check_system_files`.
    """
    packages = tuple(wheel_files(path, name, version, cache=cache) for name, version, path in wheels)
    linker = Linker(packages, "/site-packages", frozenset(), there.libraries)
    return tuple(_missing_libraries(linker, base))


def _missing_libraries(linker: Linker, base: str) -> Iterator[Finding]:
    for package in linker.packages:
        if finding := _check(package, linker, base):
            yield finding


def _check(package: PackageFiles, linker: Linker, base: str) -> Finding | None:
    lacking = {path: found for path in package.sections if (found := linker.missing(path))}
    if not lacking:
        return None
    on_import = _needed_on_import(package, linker)
    names = sorted(
        name
        for name in {name for names in lacking.values() for name in names}
        if name in on_import
        or any(name in lacked and linker.resolves_here(path, name) for path, lacked in lacking.items())
    )
    if not names:
        return None
    fails = on_import & {*names}
    path = next(path for path, lacked in lacking.items() if not lacked.isdisjoint(fails or names))
    return Finding(
        severity=Severity.ERROR if fails else Severity.WARNING,
        code="system-library",
        message=f"{package.name} {package.version} needs {_listed(names)}, which the base image {base} lacks"
        + (": importing it fails there." if fails else ": a part of it fails there."),
        path=path,
        package=package.name,
        hint=_remedy(names),
    )


def _needed_on_import(package: PackageFiles, linker: Linker) -> frozenset[str]:
    """Return the missing libraries that importing the top level of a package needs."""
    try:
        loaded = loaded_extensions(package.files, package.read)
    except OSError:
        return frozenset()  # a check of installed files reports it
    return frozenset(
        name
        for path in loaded
        for file in linker.reached(package.path(path))
        for name in linker.missing(file)
    )


def _remedy(names: Iterable[str]) -> str:
    packages = sorted({LIBRARIES[name] for name in names if name in LIBRARIES})
    unknown = [name for name in names if name not in LIBRARIES]
    lines = [f"Add to the settings: {_apt(packages)}."] if packages else []
    if unknown:
        lines.append(
            f"`apt-file search {unknown[0]}` tells which package has {_listed(unknown)}; add it to 'apt'."
        )
    return "\n".join(lines)


def _apt(packages: Iterable[str]) -> str:
    return "apt = [" + ", ".join(f'"{package}"' for package in packages) + "]"


def _missing_programs(plan: Plan, here: SystemFiles, there: SystemFiles, base: str) -> Iterator[Finding]:
    """Yield a remark for each program that a package starts, and that is here and not in the image."""
    names = {*(str(package.name) for package in plan.packages), *(str(p.name) for p in plan.provided)}
    folders = [os.path.join(plan.python.prefix, folder) for folder in ("bin", "lib")] if plan.conda else []
    for name in sorted(names & PROGRAMS.keys()):
        program = PROGRAMS[name]
        if program.file in there.programs | there.libraries:
            continue
        if any(os.path.exists(os.path.join(folder, program.file)) for folder in folders):
            continue  # conda brings it
        if program.file in here.programs | here.libraries:
            yield Finding(
                severity=Severity.INFO,
                code="system-program",
                message=f"{name} uses {program.file}, which is here and not in the base image {base}.",
                package=name,
                hint=f"If you need it: {_apt([program.apt])} in the settings.",
            )


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
