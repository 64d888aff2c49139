# Paths stay strings: there are thousands of them.
# ruff: noqa: PTH110, PTH116, PTH118, PTH119
"""Shared libraries of packages, installed or in wheels: what each needs, and whether it is found.

They are resolved as the dynamic linker does (``man 8 ld.so``); nothing is loaded.
"""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.files import read_bytes
from imagesync.core.platforms import Platform
from imagesync.plan.checks.apt_packages import DRIVERS
from imagesync.plan.checks.elf import DynamicSection, origin_folders, read_dynamic, read_dynamic_of
from imagesync.plan.plan import Plan
from imagesync.scan.distributions.metadata import read_record

_FORMAT = 1
_SHARED = re.compile(r"\.so(?:\.[0-9A-Za-z_]+)*\Z")
_CONDA_SHARED = re.compile(rb'"([^"\\\n]+\.so(?:\.[0-9A-Za-z_]+)*)"')
_DATA = re.compile(r"[^/]+\.data/(?:purelib|platlib)/")
_LINKER = "ld-linux"  # of each architecture


@dataclass(frozen=True)
class PackageFiles:
    """A package, its files, and its shared libraries, extension modules among them.

    Parameters
    ----------
    location
        Site-packages, which *files* are relative to.
    files
        The files of the package; of a conda package its libraries alone.
    read
        Returns the content of one of *files*.
    sections
        The dynamic section of each of its libraries, by path.
    """

    name: str
    version: str
    location: str
    files: tuple[str, ...]
    read: Callable[[str], bytes] = field(repr=False)
    sections: Mapping[str, DynamicSection] = field(repr=False)

    def path(self, file: str) -> str:
        """Return the path of one of *files*."""
        return os.path.normpath(os.path.join(self.location, file))


def installed_files(plan: Plan, *, cache: Path | None = None) -> tuple[PackageFiles, ...]:
    """Return the files of the installed packages of *plan* that the image gets; *cache* is a folder."""
    owners = tuple(_installed(plan))
    paths = [path for _, _, location, files in owners for path in _libraries(location, files)]
    sections = _read_sections(paths, cache and cache_path(cache, "elf", plan.python.prefix), plan.platform)
    return tuple(
        PackageFiles(
            name,
            version,
            location,
            tuple(files),
            _reader(location),
            {path: sections[path] for path in _libraries(location, files) if path in sections},
        )
        for name, version, location, files in owners
    )


def wheel_files(
    wheel: Path, name: str, version: str, *, platform: Platform, cache: Path | None = None
) -> PackageFiles:
    """Return the files of the package *name* in a wheel, as they lie in site-packages."""
    from zipfile import ZipFile

    location = "/site-packages"
    with ZipFile(wheel) as archive:
        members = {_DATA.sub("", member): member for member in archive.namelist()}
        libraries = {path: members[file] for file in members for path in _libraries(location, [file])}
        # The path of a file in the store is its digest.
        cached = cache and cache_path(cache, "elf", str(wheel))
        known = read_cache(cached, key=_FORMAT) if cached else None
        if known is None:
            read = {path: read_dynamic_of(io.BytesIO(archive.read(libraries[path]))) for path in libraries}
            known = {path: list(astuple(section)) for path, section in read.items() if section is not None}
            if cached:
                write_cache(cached, known, key=_FORMAT)

    def read_member(file: str) -> bytes:
        with ZipFile(wheel) as archive:
            return archive.read(members[file])

    return PackageFiles(name, version, location, tuple(members), read_member, _sections(known, platform))


def _installed(plan: Plan) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield name, version, location and files of each installed package."""
    for package in plan.packages:
        installed = package.installed
        if installed is not None and installed.has_record and not installed.source.editable:
            files = [path for path, _, _ in read_record(installed.metadata_path)]
            yield str(package.name), package.version, installed.location, files
    prefix = plan.python.prefix
    for conda in plan.conda:
        if conda.record is not None:
            name = f"{conda.name}-{conda.version}-{conda.build}.json"
            try:
                data = read_bytes(os.path.join(prefix, "conda-meta", name))
            except OSError:
                continue  # the scan reports it
            files = sorted({os.fsdecode(path) for path in _CONDA_SHARED.findall(data)})
            yield conda.name, conda.version, prefix, files


def _libraries(location: str, files: Iterable[str]) -> Iterator[str]:
    return (os.path.normpath(os.path.join(location, file)) for file in files if _SHARED.search(file))


def _reader(location: str) -> Callable[[str], bytes]:
    return lambda file: read_bytes(os.path.join(location, file))


def _read_sections(
    paths: Iterable[str], cached: Path | None, platform: Platform
) -> dict[str, DynamicSection]:
    """Return the dynamic section of each of *paths* that is a library for *platform*."""
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
    return _sections({path: values for path, (_, values) in entries.items() if values is not None}, platform)


def _sections(values: Mapping[str, list[object]], platform: Platform) -> dict[str, DynamicSection]:
    found = {path: _section(fields) for path, fields in values.items()}
    return {path: section for path, section in found.items() if section.machine == platform.elf_machine}


def _section(values: list[object]) -> DynamicSection:
    machine, soname, *names = values
    return DynamicSection(machine, soname, *map(tuple, names))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Linker:
    """Resolves what the libraries of *packages* need, here and in an image.

    Parameters
    ----------
    prefix
        The environment's.
    here, there
        The names of the libraries of this system, and of the base image.
    """

    packages: tuple[PackageFiles, ...]
    prefix: str
    here: frozenset[str]
    there: frozenset[str]

    @cached_property
    def sections(self) -> Mapping[str, DynamicSection]:
        """Return the dynamic section of each library by path."""
        return {path: section for package in self.packages for path, section in package.sections.items()}

    @cached_property
    def _owners(self) -> Mapping[str, PackageFiles]:
        return {path: package for package in self.packages for path in package.sections}

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
            if name not in self.there
            and name not in DRIVERS
            and not name.startswith(_LINKER)
            and self.find(path, name) is None
        )

    def missing_below(self, path: str) -> frozenset[str]:
        """Return the names that loading the file at *path* needs and that the image wouldn't have."""
        waiting, seen = [path], {path}
        while waiting:
            current = waiting.pop()
            needed = self.sections[current].needed
            found = {other for name in needed if (other := self.find(current, name)) is not None} - seen
            seen |= found
            waiting += found
        return frozenset(name for each in seen for name in self.missing(each))

    @cached_property
    def _known(self) -> dict[tuple[str, str], str | None]:
        return {}

    def find(self, path: str, name: str) -> str | None:
        """Return the library *name* of the environment that the file at *path* gets."""
        if (path, name) not in self._known:
            self._known[path, name] = self._find(path, name)
        return self._known[path, name]

    def _find(self, path: str, name: str) -> str | None:
        for folder in self._folders(path):
            candidate = os.path.join(folder, name)
            if candidate in self.sections:
                return candidate
        # A library may be loaded already when it is needed, by the package or by one that it imports; but the
        # private copy of another package doesn't hide that of the system.
        having = self._by_name.get(name, [])
        own = [other for other in having if self._owners[other] is self._owners[path]]
        if own or (having and name not in self.here):
            return (own or having)[0]
        return None

    def resolves_here(self, path: str, name: str) -> bool:
        """Return True if the system, or a folder outside of the environment, has the library *name* here."""
        outside = (folder for folder in self._folders(path) if not folder.startswith(self.prefix + os.sep))
        return name in self.here or any(os.path.exists(os.path.join(f, name)) for f in outside)

    def _folders(self, path: str) -> tuple[str, ...]:
        section = self.sections[path]
        # conda's Python has its own lib folder as RPATH, which holds for everything that it loads.
        return (*origin_folders(section.runpath or section.rpath, path), os.path.join(self.prefix, "lib"))
