"""Parts of wheels: what the wheel becomes in the environment, and its bytecode."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from imagesync.image.layers.entries import Entry, with_parents
from imagesync.image.layers.grouping import Kind, Package
from imagesync.image.layers.parts import PartRequest
from imagesync.image.layers.paths import check_kinds, shared_paths
from imagesync.image.layers.wheel_entries import WheelContent, bytecode_entries
from imagesync.image_layout import PREFIX, site_packages

if TYPE_CHECKING:
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
    """

    wheel: StoredFile
    bytecode: StoredFile | None
    kind: Kind
    minor: str
    excluded: frozenset[str] = frozenset()

    @property
    def package(self) -> Package:
        """Return what the place of the part follows from."""
        name, _, _, tags = parse_wheel_filename(self.wheel.filename)
        is_native = any(tag.platform != "any" for tag in tags)
        return Package(str(name), self.kind, self.wheel.size, is_native)

    @property
    def request(self) -> PartRequest:
        """Return the request for the part."""
        name, version, _, _ = parse_wheel_filename(self.wheel.filename)
        bytecode = self.bytecode.digest if self.bytecode is not None else ""
        key = ("wheel", self.wheel.digest, bytecode, str(PREFIX), self.minor, *sorted(self.excluded))
        return PartRequest(f"{name} {version}", key, self._entries)

    def _entries(self) -> Iterator[Entry]:
        """Yield the files sorted by path, then the bytecode, each with the directories above."""
        with WheelContent(self.wheel, minor=self.minor) as content:
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


def without_shared_files(
    wheels: Sequence[WheelPart],
    file_conflicts: Mapping[str, str],
    *,
    minor: str,
    others: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[WheelPart]:
    """Return the parts with each path in one of them only: in that of the wheel whose bytes are installed.

    Parameters
    ----------
    wheels
        In the order of their layers.
    file_conflicts
        The sha256 of each installed file that several packages have, by its path below site-packages.
    minor
        The feature version of the environment's Python.
    others
        The files and links that aren't of a wheel, by what they are of.

    Returns
    -------
    list
        In the same order. Where no wheel has the installed bytes, those of the first by name stay.

    Raises
    ------
    RenderError
        A path is a file in one of them and a folder in another.
    """
    # One wheel at a time: a process may have few open files.
    checksums: dict[str, dict[str, tuple[int, int]]] = {}
    for part in wheels:
        with WheelContent(part.wheel, minor=minor) as content:
            checksums[part.wheel.filename] = {path: content.checksum(path) for path in content.paths}
    paths = {name: list(found) for name, found in checksums.items()}
    check_kinds({**paths, **others})
    by_name = {part.wheel.filename: part.wheel for part in wheels}
    excluded: dict[str, set[str]] = {}
    for path, names in shared_paths(paths).items():
        is_same = len({checksums[name][path] for name in names}) == 1
        sharing = [by_name[name] for name in sorted(names)]
        winner = sharing[0] if is_same else _winner(path, sharing, file_conflicts, minor=minor)
        for name in names:
            if name != winner.filename:
                excluded.setdefault(name, set()).add(path)
    return [replace(part, excluded=frozenset(excluded.get(part.wheel.filename, ()))) for part in wheels]


def _winner(
    path: str, wheels: Sequence[StoredFile], file_conflicts: Mapping[str, str], *, minor: str
) -> StoredFile:
    """Return the wheel that has the installed bytes of a path, else the first."""
    folder = site_packages(minor).relative_to("/").as_posix()
    installed = file_conflicts.get(path.removeprefix(f"{folder}/"), "")
    for wheel in wheels:
        with WheelContent(wheel, minor=minor) as content:
            if hashlib.sha256(content.read(path)).hexdigest() == installed:
                return wheel
    return wheels[0]


def _is_excluded(bytecode: str, excluded: frozenset[str]) -> bool:
    """Return True if bytecode belongs to a module that isn't in the part."""
    folder, _, name = bytecode.rpartition("/")
    return f"{folder.removesuffix('__pycache__')}{name.partition('.')[0]}.py" in excluded


def bytecode_by_wheel(wheels: Sequence[StoredFile], bytecode: Sequence[StoredFile]) -> dict[str, StoredFile]:
    """Return the archive of bytecode of each wheel that has one, by the wheel's file name."""
    archives = {archive.filename: archive for archive in bytecode}
    names = {wheel.filename: wheel.filename.removesuffix(".whl") + ".pyc.zip" for wheel in wheels}
    return {wheel: archives[name] for wheel, name in names.items() if name in archives}
