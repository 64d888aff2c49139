"""Parts in the store, by what they follow from: their packages' archives aren't needed for an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.pipeline.package_facts import (
    conda_facts,
    known_conda,
    known_part,
    known_wheel,
    part_facts,
    wheel_facts,
)
from imagesync.store.layout import PACKAGES, PACKAGES_FORMAT, is_digest

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.image.layers.conda_parts import CondaPart, KnownConda
    from imagesync.image.layers.layer import Layer
    from imagesync.image.layers.parts import Part
    from imagesync.image.layers.wheel_parts import KnownWheel, WheelPart
    from imagesync.lock.conda.archive_files import ArchiveFiles
    from imagesync.lock.locked_packages import LockedConda, LockedPackage
    from imagesync.pipeline.package_facts import MakePart, PartSources
    from imagesync.store.store import Store, StoredFile

_PART: Final = "part"
_PACKAGE: Final = "package"


@dataclass(frozen=True)
class StoredParts:
    """The parts in a store.

    Parameters
    ----------
    store
        Has the parts.
    needs_archives
        Whether the archives tell more than what is remembered of them, so that those in the store are taken.
    """

    store: Store
    needs_archives: bool = False

    def wheel(self, package: LockedPackage, sources: PartSources, make: MakePart) -> KnownWheel | None:
        """Return the wheel of a locked package if its files are known, or ``None``.

        *make* returns the part that follows from certain inputs.
        """
        source = sources.digest(package.artifact.digest)
        facts = self._facts(package.artifact.digest, source)
        return None if facts is None else known_wheel(facts, package, source, sources.minor, make)

    def conda(self, package: LockedConda, sources: PartSources, make: MakePart) -> KnownConda | None:
        """Return a locked conda package as :meth:`wheel` does a wheel."""
        digest = package.artifact.digest
        facts = self._facts(digest, sources.digest(digest)) if digest else None
        return None if facts is None else known_conda(facts, package, self.store, make)

    def find(self, inputs: str) -> Part | None:
        """Return the part that follows from *inputs*, or ``None``; whoever reads it has to verify it.

        No other process prunes it from then on.
        """
        facts = read_cache(self._path(_PART, inputs), key=PACKAGES_FORMAT)
        digest = facts.get("digest") if isinstance(facts, dict) else None
        part = known_part(facts, inputs, digest, self.store) if is_digest(digest) else None
        if part is None or self._is_gone(part):
            return None
        return part

    def remember(
        self,
        layers: Iterable[Layer],
        wheels: Iterable[tuple[WheelPart, str]],
        conda: Iterable[tuple[CondaPart, ArchiveFiles]],
    ) -> None:
        """Remember the parts of *layers*, and the files of their packages whose archives are here.

        *wheels* come with the digests of the files of the lock; those without a source aren't remembered.
        """
        parts = {part.name: part for layer in layers for part in layer.parts if part.inputs}
        for part in parts.values():
            self._write(_PART, part.inputs, partial(_part_entry, part))
        for wheel, locked in wheels:
            if wheel.source and (made := parts.get(wheel.request.name)):
                self._write(_PACKAGE, wheel.source, partial(_wheel_entry, wheel, locked, made))
        for each, content in conda:
            if each.source and each.known is None and (made := parts.get(each.request.name)):
                self._write(_PACKAGE, each.source, partial(_conda_entry, each, content, made))

    def _is_gone(self, part: Part) -> bool:
        stored = part.stored
        return self.store.find(stored.digest, filename=part.name, size=stored.size) is None

    def _facts(self, archive: str, source: str) -> Mapping[str, Any] | None:
        if self.needs_archives and self.store.has(archive):
            return None
        entry = read_cache(self._path(_PACKAGE, source), key=PACKAGES_FORMAT)
        facts = entry.get("facts") if isinstance(entry, dict) else None
        return facts if isinstance(facts, dict) else None

    def _path(self, kind: str, inputs: str) -> Path:
        return cache_path(self.store.root / PACKAGES, kind, inputs)

    def _write(self, kind: str, inputs: str, entry: Callable[[], object]) -> None:
        path = self._path(kind, inputs)
        if read_cache(path, key=PACKAGES_FORMAT) is None:
            write_cache(path, entry(), key=PACKAGES_FORMAT)


def _part_entry(part: Part) -> dict[str, Any]:
    return {"digest": part.stored.digest, **part_facts(part)}


def _wheel_entry(wheel: WheelPart, locked: str, part: Part) -> dict[str, Any]:
    archives = [wheel.wheel.digest, locked, *_digests(wheel.bytecode)]
    return {"archives": archives, "part": part.stored.digest, "facts": wheel_facts(wheel)}


def _conda_entry(package: CondaPart, content: ArchiveFiles, part: Part) -> dict[str, Any]:
    archives = [package.archive.digest, *_digests(package.bytecode)]
    return {"archives": archives, "part": part.stored.digest, "facts": conda_facts(package, content)}


def _digests(bytecode: StoredFile | None) -> list[str]:
    return [] if bytecode is None else [bytecode.digest]
