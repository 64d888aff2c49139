# Paths stay strings: there are thousands of them.
# ruff: noqa: PTH110, PTH118
"""System libraries and programs that packages need and a base image lacks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.platforms import Platform, runs_on
from imagesync.core.text import first_of
from imagesync.plan.checks.apt_packages import LIBRARIES, PROGRAMS
from imagesync.plan.checks.imported_extensions import loaded_extensions
from imagesync.plan.checks.shared_libraries import Linker, PackageFiles, installed_files, wheel_files
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Finding, Severity

_FORMAT = 1
_SHOWN = 8


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
    return (*_missing_libraries(linker, base, cache), *programs)


def check_wheels(
    wheels: Iterable[tuple[str, str, Path]],
    *,
    platform: Platform,
    there: SystemFiles,
    base: str,
    cache: Path | None = None,
) -> tuple[Finding, ...]:
    """Return the findings about libraries that wheels need on import and the base image lacks.

    For environments of other platforms, whose installed files say nothing about the image.

    Parameters
    ----------
    wheels
        Name, version and path of each.
    platform
        That of the image.
    there
        The files of the base image.
    base, cache
        As for :func:`check_system_files`.
    """
    packages = tuple(
        wheel_files(path, name, version, platform=platform, cache=cache) for name, version, path in wheels
    )
    linker = Linker(packages, "/site-packages", frozenset(), there.libraries)
    return tuple(_missing_libraries(linker, base, cache))


@dataclass(frozen=True)
class _Lacking:
    """A package that needs a library which the base image lacks, on import or in a part of it."""

    package: PackageFiles
    path: str
    on_import: bool


def _missing_libraries(linker: Linker, base: str, cache: Path | None) -> Iterator[Finding]:
    """Yield one finding for the libraries that the same packages need, however many packages these are."""
    by_library: dict[str, list[_Lacking]] = {}
    for package in linker.packages:
        for name, lacking in _check(package, linker, cache):
            by_library.setdefault(name, []).append(lacking)
    groups: dict[tuple[tuple[str, bool], ...], list[str]] = {}
    for name in sorted(by_library):
        needing = tuple((each.package.name, each.on_import) for each in by_library[name])
        groups.setdefault(needing, []).append(name)
    for names in groups.values():
        yield _finding(names, by_library[names[0]], base)


def _check(package: PackageFiles, linker: Linker, cache: Path | None) -> Iterator[tuple[str, _Lacking]]:
    """Yield the libraries that a package lacks, each with the file that needs it."""
    lacking = {path: found for path in package.sections if (found := linker.missing(path))}
    if not lacking:
        return
    on_import = _needed_on_import(package, linker, cache)
    for name in sorted({name for names in lacking.values() for name in names}):
        paths = [path for path, lacked in lacking.items() if name in lacked]
        if name in on_import or any(linker.resolves_here(path, name) for path in paths):
            yield name, _Lacking(package, paths[0], name in on_import)


def _finding(names: Sequence[str], needing: Sequence[_Lacking], base: str) -> Finding:
    failing = [each for each in needing if each.on_import]
    partly = [each for each in needing if not each.on_import]
    verb = "needs" if len(needing) == 1 else "need"
    what = "it" if len(needing) == 1 else "them"
    if not partly:
        effect = f"importing {what} fails there"
    elif not failing:
        effect = f"a part of {what} fails there"
    else:
        effect = f"importing {_named(failing)} fails there, and a part of the {_others(partly)}"
    first = (failing or partly)[0]
    return Finding(
        severity=Severity.ERROR if failing else Severity.WARNING,
        code="system-library",
        message=f"{_named(needing)} {verb} {_shown(names)}, which the base image {base} lacks: {effect}.",
        path=first.path,
        package=first.package.name if len(needing) == 1 else None,
        hint=_remedy(names),
    )


def _named(needing: Sequence[_Lacking]) -> str:
    return _shown([f"{each.package.name} {each.package.version}" for each in needing])


def _others(needing: Sequence[_Lacking]) -> str:
    return "other" if len(needing) == 1 else "others"


def _needed_on_import(package: PackageFiles, linker: Linker, cache: Path | None) -> frozenset[str]:
    """Return the missing libraries that importing the top level of a package needs."""
    extensions = (file for file in package.files if package.path(file) in package.sections)
    lacking = {file: names for file in extensions if (names := linker.missing_below(package.path(file)))}
    if not lacking:
        return frozenset()
    return frozenset(
        name for file in _loaded_extensions(package, cache) for name in lacking.get(file, frozenset())
    )


def _loaded_extensions(package: PackageFiles, cache: Path | None) -> Iterable[str]:
    """Return the extension modules that importing the top level of a package loads."""
    path = cache and cache_path(cache, "imports", package.name, package.location)
    key = [_FORMAT, package.version, sorted(package.files)]
    loaded: Iterable[str] | None = read_cache(path, key=key) if path else None
    if loaded is None:
        try:
            loaded = sorted(loaded_extensions(package.files, package.read))
        except OSError:
            return ()  # a check of installed files reports it
        if path:
            write_cache(path, loaded, key=key)
    return loaded


def _remedy(names: Sequence[str]) -> str:
    packages = {name: _package_of(name) for name in names}
    known, unknown = {*packages.values()} - {""}, [name for name in names if not packages[name]]
    lines = [f"Add to the settings: {_apt(sorted(known))}."] if known else []
    if unknown:
        lines.append(
            f"`apt-file search {unknown[0]}` tells which package has {_shown(unknown)}; add it to 'apt'."
        )
    return "\n".join(lines)


def _package_of(name: str) -> str:
    """Return the package of apt that brings a library; empty if the table has none.

    >>> _package_of("libgomp.so.1.0.0"), _package_of("libunheard.so.1")
    ('libgomp1', '')
    """
    while name not in LIBRARIES and name.rpartition(".")[2].isdigit():
        name = name.rpartition(".")[0]
    return LIBRARIES.get(name, "")


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


def _shown(names: Sequence[str]) -> str:
    if len(names) > _SHOWN:
        return first_of(names, _SHOWN)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
