"""Parts of wheels: what the wheel becomes in the environment, and its bytecode."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
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
    """

    wheel: StoredFile
    bytecode: StoredFile | None
    kind: Kind
    minor: str

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
        key = ("wheel", self.wheel.digest, bytecode, str(PREFIX), self.minor)
        return PartRequest(f"{name} {version}", key, self._entries)

    def _entries(self) -> Iterator[Entry]:
        """Yield the files sorted by path, then the bytecode, each with the directories above."""
        with WheelContent(self.wheel, minor=self.minor) as content:
            files = content.entries()
            if self.bytecode is None:
                yield from with_parents(files)
                return
            compiled = bytecode_entries(self.bytecode.path, minor=self.minor)
            replaced = {entry.path for entry in compiled}
            yield from with_parents(entry for entry in files if entry.path not in replaced)
            yield from with_parents(compiled)


def winning_entries(
    wheels: Sequence[WheelPart], file_conflicts: Mapping[str, str], *, minor: str
) -> list[Entry]:
    """Return the files that several wheels have and of which the last one doesn't have the installed bytes.

    Parameters
    ----------
    wheels
        In the order of their layers.
    file_conflicts
        The sha256 of each installed file that several packages have, by its path below site-packages.
    minor
        The feature version of the environment's Python.

    Returns
    -------
    list
        The files with their bytecode. Where no wheel has the installed bytes, those of the first by name.

    Raises
    ------
    RenderError
        A path is a file in one wheel and a folder in another.
    """
    with ExitStack() as stack:
        contents = {
            part.wheel.filename: stack.enter_context(WheelContent(part.wheel, minor=minor)) for part in wheels
        }
        paths = {name: [member.path for member in found.members] for name, found in contents.items()}
        check_kinds(paths)
        by_name = {part.wheel.filename: part for part in wheels}
        found: list[Entry] = []
        for path, names in shared_paths(paths).items():
            winner = _winner(path, names, contents, file_conflicts, minor=minor)
            if winner is not None:
                found += _with_bytecode(path, contents[winner], by_name[winner])
        return found


def _winner(
    path: str,
    names: Sequence[str],
    contents: Mapping[str, WheelContent],
    file_conflicts: Mapping[str, str],
    *,
    minor: str,
) -> str | None:
    """Return the wheel whose file is written again, or ``None`` if the last one has the right bytes."""
    checksums = {name: contents[name].checksum(path) for name in names}
    if len(set(checksums.values())) == 1:
        return None
    folder = site_packages(minor).relative_to("/").as_posix()
    installed = file_conflicts.get(path.removeprefix(f"{folder}/"), "")
    by_name = sorted(names)
    same = (name for name in by_name if hashlib.sha256(contents[name].read(path)).hexdigest() == installed)
    winner = next(same, by_name[0])
    return None if checksums[winner] == checksums[names[-1]] else winner


def _with_bytecode(path: str, content: WheelContent, part: WheelPart) -> list[Entry]:
    entries = [entry for entry in content.entries() if entry.path == path]
    # Read now: the wheel is closed when the entries are written.
    found = [Entry(e.path, mode=e.mode, size=e.size, read=tuple(e.read()).__iter__) for e in entries]
    if part.bytecode is not None and path.endswith(".py"):
        folder, _, name = path.rpartition("/")
        start = f"{folder}/__pycache__/{name.removesuffix('.py')}."
        compiled = bytecode_entries(part.bytecode.path, minor=part.minor)
        found += [entry for entry in compiled if entry.path.startswith(start)]
    return found


def bytecode_by_wheel(wheels: Sequence[StoredFile], bytecode: Sequence[StoredFile]) -> dict[str, StoredFile]:
    """Return the archive of bytecode of each wheel that has one, by the wheel's file name."""
    archives = {archive.filename: archive for archive in bytecode}
    names = {wheel.filename: wheel.filename.removesuffix(".whl") + ".pyc.zip" for wheel in wheels}
    return {wheel: archives[name] for wheel, name in names.items() if name in archives}
