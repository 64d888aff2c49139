"""Parts of wheels: what the wheel becomes in the environment, and its bytecode."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from imagesync.image.layers.entries import Entry, with_parents
from imagesync.image.layers.grouping import Kind, Package
from imagesync.image.layers.parts import PartRequest, part_inputs
from imagesync.image.layers.paths import check_kinds, refuse_shared, shared_paths
from imagesync.image.layers.wheel_entries import WheelContent, bytecode_entries
from imagesync.image_layout import PREFIX, site_packages

if TYPE_CHECKING:
    from imagesync.image.layers.parts import Part
    from imagesync.store.store import StoredFile


@dataclass(frozen=True)
class WheelPart:
    """A wheel that becomes a part.

    Parameters
    ----------
    wheel
        With a valid file name of a wheel.
    bytecode
        The archive of its compiled modules; ``None`` if they weren't compiled.
    kind
        ``pip`` from an index, ``local`` from this machine.
    minor
        The feature version of the environment's Python.
    excluded
        Paths that other packages have, too, and that are in another part.
    source
        A digest of what the part follows from, besides *excluded*, its place among it; see
        :attr:`~imagesync.image.layers.parts.PartRequest.inputs`.
    is_virtual
        Whether the environment is a virtual one; conda's has other folders for headers and data.
    """

    wheel: StoredFile
    bytecode: StoredFile | None
    kind: Kind
    minor: str
    excluded: frozenset[str] = frozenset()
    source: str = ""
    is_virtual: bool = True

    @property
    def filename(self) -> str:
        """Return the file name of the wheel."""
        return self.wheel.filename

    def open(self) -> WheelContent:
        """Return the content of the wheel."""
        return WheelContent(self.wheel, minor=self.minor, is_virtual=self.is_virtual)

    @cached_property
    def checksums(self) -> Mapping[str, tuple[int, int]]:
        """Return the checksum of each installed file, by its path."""
        with self.open() as content:
            return {path: content.checksum(path) for path in content.paths}

    @property
    def package(self) -> Package:
        """Return the package, which decides the place of the part."""
        return package_of(self.filename, self.kind, self.wheel.size)

    @property
    def request(self) -> PartRequest:
        """Return the request for the part."""
        name, version, _, _ = parse_wheel_filename(self.wheel.filename)
        bytecode = self.bytecode.digest if self.bytecode is not None else ""
        kind = "wheel" if self.is_virtual else "wheel on conda"
        key = (kind, self.wheel.digest, bytecode, str(PREFIX), self.minor, *sorted(self.excluded))
        inputs = part_inputs(self.source, self.excluded)
        return PartRequest(f"{name} {version}", key, self._entries, inputs)

    def _entries(self) -> Iterator[Entry]:
        """Yield the files sorted by path, then the bytecode, each with the directories above."""
        with self.open() as content:
            files = [entry for entry in content.entries() if entry.path not in self.excluded]
            if self.bytecode is None:
                yield from with_parents(files)
                return
            compiled = [
                entry
                for entry in bytecode_entries(self.bytecode.path, minor=self.minor)
                if not _is_excluded(entry.path, self.excluded)
            ]
            replaced = {entry.path for entry in compiled}
            yield from with_parents(entry for entry in files if entry.path not in replaced)
            yield from with_parents(compiled)


@dataclass(frozen=True)
class KnownWheel:
    """A wheel that isn't here: another build has made its part, and listed its files.

    Parameters
    ----------
    filename, size
        Of the wheel.
    minor
        The feature version of the environment's Python.
    source
        As of :class:`WheelPart`.
    checksums
        What tells the content of each installed file, by its path.
    make
        Returns the part that follows from certain inputs.
    excluded
        Paths that other packages have, too, and that are in another part.
    """

    filename: str
    size: int
    minor: str
    source: str
    checksums: Mapping[str, tuple[int, int]] = field(repr=False)
    make: Callable[[str], Part] = field(repr=False)
    excluded: frozenset[str] = frozenset()

    @property
    def package(self) -> Package:
        """Return the package, which decides the place of the part."""
        return package_of(self.filename, "pip", self.size)

    @property
    def request(self) -> PartRequest:
        """Return the request for the part."""
        name, version, _, _ = parse_wheel_filename(self.filename)
        inputs = part_inputs(self.source, self.excluded)
        return PartRequest(f"{name} {version}", (), tuple, inputs, self.make)


def package_of(filename: str, kind: Kind, size: int) -> Package:
    """Return the package of a wheel, for the place of its part."""
    name, _, _, tags = parse_wheel_filename(filename)
    return Package(str(name), kind, size, any(tag.platform != "any" for tag in tags))


def needed_archives(wheels: Sequence[WheelPart | KnownWheel]) -> set[str]:
    """Return the names of the known wheels whose bytes decide which package has a path."""
    checksums = {part.filename: part.checksums for part in wheels}
    known = {part.filename for part in wheels if isinstance(part, KnownWheel)}
    found: set[str] = set()
    for path, names in shared_paths({name: list(paths) for name, paths in checksums.items()}).items():
        if len({checksums[name][path] for name in names}) > 1:
            found.update(known.intersection(names))
    return found


def without_shared_files(
    wheels: Sequence[WheelPart | KnownWheel],
    file_conflicts: Mapping[str, str],
    *,
    minor: str,
    below: Mapping[str, Sequence[str]] = MappingProxyType({}),
    others: Mapping[str, Sequence[str]] = MappingProxyType({}),
    above: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[WheelPart | KnownWheel]:
    """Return the parts with each path in one of them only: in that of the wheel whose bytes are installed.

    Parameters
    ----------
    wheels
        In the order of their layers; the bytes of known ones decide nothing (:func:`needed_archives`).
    file_conflicts
        The sha256 of each installed file that several packages have, by its path below site-packages.
    minor
        The feature version of the environment's Python.
    below
        The files and links of conda packages, by what they are of. Those that a wheel has, too, have the
        same bytes, and stay.
    others
        The files and links that no wheel may have, by what they are of.
    above
        Those that replace a wheel's, by what they are of.

    Returns
    -------
    list
        In the same order. Where no wheel has the installed bytes, those of the first by name stay.

    Raises
    ------
    RenderError
        A path is a file in one of them and a folder in another, or one of *others*.
    """
    checksums = {part.filename: part.checksums for part in wheels}
    paths = {name: list(found) for name, found in checksums.items()}
    check_kinds({**paths, **below, **others, **above})
    refuse_shared(paths, others)
    by_name = {part.filename: part for part in wheels if isinstance(part, WheelPart)}
    present = {path for found in below.values() for path in found}
    excluded = {name: present.intersection(found) for name, found in paths.items()}
    for path, names in shared_paths(paths).items():
        if path in present:
            continue
        is_same = len({checksums[name][path] for name in names}) == 1
        winner = min(names)
        if not is_same:
            sharing = [by_name[name] for name in sorted(names)]
            winner = _winner(path, sharing, file_conflicts, minor=minor)
        for name in names:
            if name != winner:
                excluded[name].add(path)
    return [replace(part, excluded=frozenset(excluded[part.filename])) for part in wheels]


def _winner(path: str, wheels: Sequence[WheelPart], file_conflicts: Mapping[str, str], *, minor: str) -> str:
    """Return the name of the wheel that has the installed bytes of a path, else the first."""
    folder = site_packages(minor).relative_to("/").as_posix()
    installed = file_conflicts.get(path.removeprefix(f"{folder}/"), "")
    for wheel in wheels:
        with wheel.open() as content:
            if hashlib.sha256(content.read(path)).hexdigest() == installed:
                return wheel.filename
    return wheels[0].filename


def _is_excluded(bytecode: str, excluded: frozenset[str]) -> bool:
    """Return True if bytecode belongs to a module that isn't in the part."""
    folder, _, name = bytecode.rpartition("/")
    return f"{folder.removesuffix('__pycache__')}{name.partition('.')[0]}.py" in excluded


def bytecode_by_wheel(wheels: Sequence[StoredFile], bytecode: Sequence[StoredFile]) -> dict[str, StoredFile]:
    """Return the archive of bytecode of each wheel that has one, by the wheel's file name."""
    archives = {archive.filename: archive for archive in bytecode}
    names = {wheel.filename: wheel.filename.removesuffix(".whl") + ".pyc.zip" for wheel in wheels}
    return {wheel: archives[name] for wheel, name in names.items() if name in archives}
