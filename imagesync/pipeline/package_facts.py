"""What is remembered of packages whose parts were made, so that the archives aren't needed again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from imagesync.core.names import canonical_name
from imagesync.image.layers.conda_parts import CondaFacts, KnownConda
from imagesync.image.layers.entries import FolderAttributes
from imagesync.image.layers.parts import FORMAT, Part
from imagesync.image.layers.wheel_parts import KnownWheel
from imagesync.lock.conda.archive_files import ArchiveFiles
from imagesync.store.store import StoredFile

if TYPE_CHECKING:
    from imagesync.image.layers.conda_parts import CondaPart
    from imagesync.image.layers.wheel_parts import WheelPart
    from imagesync.lock.locked_packages import LockedConda, LockedPackage
    from imagesync.store.store import Store

MakePart = Callable[[str], Part]


@dataclass(frozen=True)
class PartSources:
    """What the parts of an environment's packages follow from, besides their archives.

    Parameters
    ----------
    minor
        The feature version of the environment's Python.
    compiler
        The full version of the interpreter that compiles bytecode; empty if nothing does.
    compression
        Of the layers.
    place
        The folder of the environment in the image.
    is_virtual
        Whether the environment is a virtual one, and not conda's.
    """

    minor: str
    compiler: str
    compression: str
    place: str
    is_virtual: bool = True

    def digest(self, archive: str) -> str:
        """Return the digest of what the part of a package follows from, by the digest of its archive."""
        parts = (version("imagesync"), str(FORMAT), *map(str, astuple(self)), archive)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def wheel_facts(part: WheelPart | KnownWheel) -> dict[str, Any]:
    """Return the facts that :func:`known_wheel` reads, as JSON has them."""
    files = [[path, *checksum] for path, checksum in sorted(part.checksums.items())]
    return {"filename": part.filename, "size": part.package.size, "files": files}


def known_wheel(
    facts: Mapping[str, Any], package: LockedPackage, source: str, minor: str, make: MakePart
) -> KnownWheel | None:
    """Return the wheel of a locked package by what is remembered of it; ``None`` if that is malformed.

    Parameters
    ----------
    facts
        Of :func:`wheel_facts`.
    package
        The package.
    source, minor, make
        As of :class:`~imagesync.image.layers.wheel_parts.KnownWheel`.
    """
    try:
        files = {str(path): (int(crc), int(size)) for path, crc, size in facts["files"]}
        filename, size = str(facts["filename"]), int(facts["size"])
    except (LookupError, TypeError, ValueError):
        return None
    if filename != package.artifact.filename:
        return None
    return KnownWheel(filename, size, minor, source, files, make)


def conda_facts(part: CondaPart, content: ArchiveFiles) -> dict[str, Any]:
    """Return the facts that :func:`known_conda` reads, as JSON has them."""
    return {
        "filename": part.archive.filename,
        "size": part.archive.size,
        "distributions": part.locked.distributions,
        "files": dict(content.files),
        "facts": vars(part.facts()),
    }


def known_conda(
    facts: Mapping[str, Any], package: LockedConda, store: Store, make: MakePart
) -> KnownConda | None:
    """Return a locked conda package by what is remembered of it; ``None`` if that is malformed.

    Parameters
    ----------
    facts
        Of :func:`conda_facts`.
    package
        The package.
    store
        Would have the archive.
    make
        As of :class:`~imagesync.image.layers.conda_parts.KnownConda`.
    """
    digest = package.artifact.digest
    try:
        filename, size = str(facts["filename"]), int(facts["size"])
        distributions = tuple(canonical_name(str(name)) for name in facts["distributions"])
        files = {str(path): str(sha256) for path, sha256 in facts["files"].items()}
        found = CondaFacts.from_dict(facts["facts"])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    if not digest or filename != package.artifact.filename:
        return None
    not_here = StoredFile(filename, store.path(digest), digest, size)
    return KnownConda(not_here, distributions, ArchiveFiles(files), found, make)


def part_facts(part: Part) -> dict[str, Any]:
    """Return the facts that :func:`known_part` reads, as JSON has them."""
    folders = {path: astuple(attributes) for path, attributes in sorted(part.folders.items())}
    return {"name": part.name, "members": part.members, "folders": folders}


def known_part(facts: Mapping[str, Any], inputs: str, digest: str, store: Store) -> Part | None:
    """Return a part by what is remembered of it; ``None`` if that is malformed.

    Parameters
    ----------
    facts
        Of :func:`part_facts`.
    inputs
        What the part follows from.
    digest
        Of its bytes, which *store* need not have.
    store
        Its place in it is that of the part's bytes.
    """
    try:
        members = tuple((int(size), int(plain)) for size, plain in facts["members"])
        folders = {str(path): FolderAttributes(*values) for path, values in facts["folders"].items()}
        name = str(facts["name"])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    size = sum(size for size, _ in members)
    return Part(name, StoredFile(name, store.path(digest), digest, size), members, folders, inputs)
