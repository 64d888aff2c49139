# Paths stay strings: there are thousands of them.
# ruff: noqa: PTH110, PTH116, PTH118, PTH119
"""System libraries and programs that packages need and a base image lacks.

Shared libraries of the environment are resolved as the dynamic linker does (``man 8 ld.so``), against the
names of the libraries here and in the base image; nothing is loaded.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.files import read_bytes
from imagesync.core.platforms import runs_on
from imagesync.plan.checks.apt_packages import DRIVERS, LIBRARIES, PROGRAMS
from imagesync.plan.checks.elf import X86_64, DynamicSection, origin_folders, read_dynamic
from imagesync.plan.checks.imported_extensions import loaded_extensions
from imagesync.plan.plan import Plan
from imagesync.scan.distributions.metadata import read_record
from imagesync.scan.environment import Finding, Severity

_FORMAT = 1
_SHARED = re.compile(r"\.so(?:\.[0-9A-Za-z_]+)*\Z")
_CONDA_SHARED = re.compile(rb'"([^"\\\n]+\.so(?:\.[0-9A-Za-z_]+)*)"')
_LINKER = "ld-linux-x86-64.so.2"


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
    found = list(_missing_programs(plan, here, there, base))
    if runs_on(plan.platform, local=plan.python.platform, libc=plan.python.libc):
        owners = tuple(_owners(plan))
        paths = {path: owner for owner in owners for path in owner.paths}
        sections = _read_sections(paths, cache and cache_path(cache, "elf", plan.python.prefix))
        linker = _Linker(sections, paths, plan.python.prefix, here, there)
        found = [*(f for owner in owners if (f := _check(owner, linker, base))), *found]
    return tuple(found)


@dataclass(frozen=True)
class _Owner:
    """A package and the paths of its shared libraries, extension modules among them.

    Parameters
    ----------
    location
        Site-packages, which *files* are relative to.
    files
        The modules of the package.
    """

    name: str
    version: str
    location: str
    paths: tuple[str, ...]
    files: tuple[str, ...] = ()


def _owners(plan: Plan) -> Iterator[_Owner]:
    for package in plan.packages:
        installed = package.installed
        if installed is not None and installed.has_record and not installed.source.editable:
            files = [path for path, _, _ in read_record(installed.metadata_path)]
            yield _owner(str(package.name), package.version, installed.location, files)
    prefix = plan.python.prefix
    for conda in plan.conda:
        if conda.record is not None:
            name = f"{conda.name}-{conda.version}-{conda.build}.json"
            try:
                data = read_bytes(os.path.join(prefix, "conda-meta", name))
            except OSError:
                continue  # the scan reports it
            files = sorted({os.fsdecode(path) for path in _CONDA_SHARED.findall(data)})
            yield _owner(conda.name, conda.version, prefix, files)


def _owner(name: str, version: str, location: str, files: list[str]) -> _Owner:
    shared = (os.path.normpath(os.path.join(location, path)) for path in files if _SHARED.search(path))
    return _Owner(name, version, location, tuple(shared), tuple(files))


def _read_sections(paths: Iterable[str], cached: Path | None) -> dict[str, DynamicSection]:
    """Return the dynamic section of each of *paths* that is a library of x86-64."""
    known = (read_cache(cached, key=_FORMAT) if cached is not None else None) or {}
    entries = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        stat = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        entry = known.get(path)
        if entry is None or entry[0] != stat:
            section = read_dynamic(path)
            entry = [stat, None if section is None else list(astuple(section))]
        entries[path] = entry
    if cached is not None and entries != known:
        write_cache(cached, entries, key=_FORMAT)
    found = {path: _section(values) for path, (_, values) in entries.items() if values is not None}
    return {path: section for path, section in found.items() if section.machine == X86_64}


def _section(values: list[object]) -> DynamicSection:
    machine, soname, *names = values
    return DynamicSection(machine, soname, *map(tuple, names))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Linker:
    sections: Mapping[str, DynamicSection]
    owners: Mapping[str, _Owner]
    prefix: str
    here: SystemFiles
    there: SystemFiles

    @cached_property
    def _by_name(self) -> Mapping[str, list[str]]:
        names = defaultdict(list)
        for path, section in self.sections.items():
            for name in {os.path.basename(path), section.soname}:
                names[name].append(path)
        return names

    def missing(self, path: str) -> frozenset[str]:
        """Return the names that the file at *path* itself needs and that the image wouldn't have."""
        return frozenset(
            name
            for name in self.sections[path].needed
            if name not in self.there.libraries
            and name not in DRIVERS
            and name != _LINKER
            and self.find(path, name) is None
        )

    def find(self, path: str, name: str) -> str | None:
        """Return the library *name* of the environment that the file at *path* gets."""
        for folder in self._folders(path):
            candidate = os.path.join(folder, name)
            if candidate in self.sections:
                return candidate
        # A library may be loaded already when it is needed, by the package or by one that it imports; but the
        # private copy of another package doesn't hide that of the system.
        having = self._by_name.get(name, [])
        own = [other for other in having if self.owners[other] is self.owners[path]]
        if own or (having and name not in self.here.libraries):
            return (own or having)[0]
        return None

    def resolves_here(self, path: str, name: str) -> bool:
        """Return True if the system, or a folder outside of the environment, has the library *name* here."""
        outside = (folder for folder in self._folders(path) if not folder.startswith(self.prefix + os.sep))
        return name in self.here.libraries or any(os.path.exists(os.path.join(f, name)) for f in outside)

    def reached(self, path: str) -> Iterator[str]:
        """Yield the files of the environment that loading the file at *path* loads, itself among them."""
        waiting, seen = [path], set()
        while waiting:
            current = waiting.pop()
            if current in seen or current not in self.sections:
                continue
            seen.add(current)
            yield current
            waiting += [
                found for name in self.sections[current].needed if (found := self.find(current, name))
            ]

    def _folders(self, path: str) -> tuple[str, ...]:
        section = self.sections[path]
        # conda's Python has its own lib folder as RPATH, which holds for everything that it loads.
        return (*origin_folders(section.runpath or section.rpath, path), os.path.join(self.prefix, "lib"))


def _check(owner: _Owner, linker: _Linker, base: str) -> Finding | None:
    lacking = {
        path: found for path in owner.paths if path in linker.sections and (found := linker.missing(path))
    }
    if not lacking:
        return None
    on_import = _needed_on_import(owner, linker)
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
        message=f"{owner.name} {owner.version} needs {_listed(names)}, which the base image {base} lacks: "
        + ("importing it fails there." if fails else "what needs them there fails."),
        path=path,
        package=owner.name,
        hint=_remedy(names),
    )


def _needed_on_import(owner: _Owner, linker: _Linker) -> frozenset[str]:
    """Return the missing libraries that importing the top level of a package needs."""

    def read(path: str) -> bytes:
        return read_bytes(os.path.join(owner.location, path))

    try:
        loaded = loaded_extensions(owner.files, read)
    except OSError:
        return frozenset()  # a check of installed files reports it
    return frozenset(
        name
        for path in loaded
        for file in linker.reached(os.path.normpath(os.path.join(owner.location, path)))
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
