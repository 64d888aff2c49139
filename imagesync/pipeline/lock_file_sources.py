"""The local packages of a lock file: the digests of their sources and wheels, and what is remembered of them.

A lock file of uv or pixi names source trees and has no digests of them. Which ones it names is remembered, so
that a build that finds its image starts neither uv nor a reader of ``pixi.lock``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.digests import file_hexdigest, sha256_of_json
from imagesync.core.platforms import Platform
from imagesync.plan.checks.sources import local_path
from imagesync.scan.environment import Source
from imagesync.store.layout import HASHES, TREES

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.lock import Target
    from imagesync.lock.locked_packages import VendoredPackage
    from imagesync.lock.lockfile.models import Selection
    from imagesync.plan.plan import Plan
    from imagesync.wheels.wheel_contents import WheelContent

_FORMAT = 1


def with_digests(
    vendored: Iterable[VendoredPackage], *, cache: Path, known: Mapping[str, str] | None = None
) -> tuple[VendoredPackage, ...]:
    """Return local packages with the digests of their sources; those with a wheel have them.

    Parameters
    ----------
    vendored
        Local packages of a lock file.
    cache
        The cache folder.
    known
        By the URL of a source tree, its digest if that is known.
    """
    from imagesync.wheels.sources.source_digests import package_digest

    def digest(package: VendoredPackage) -> str:
        source = package.planned.source
        if package.content or (known and source.kind == "directory" and source.url in known):
            return package.content or (known or {})[source.url or ""]
        return package_digest(package.planned, cache=cache / TREES)

    return tuple(replace(package, content=digest(package)) for package in vendored)


def source_digests(vendored: Iterable[VendoredPackage]) -> dict[NormalizedName, str]:
    """Return the digest of what the wheel of each local package is made from, by name."""
    return {package.name: package.content for package in vendored if not package.repacked}


def sources_key(path: Path, digest: str, selection: Selection | None, target: Target | Platform) -> str:
    """Return the digest of all that decides which source trees a lock file names for an image.

    Parameters
    ----------
    path, digest
        The lock file, and the digest of its content.
    selection
        The part of it that is taken.
    target
        What it is read for; a platform if the interpreter decides nothing.
    """
    project = path.parent / "pyproject.toml"
    return sha256_of_json(
        {
            "file": str(path.absolute()),
            "content": digest,
            "project": file_hexdigest(project) if project.is_file() else "",
            "selection": asdict(selection) if selection else {},
            "target": str(target) if isinstance(target, Platform) else target.to_dict(),
        }
    )


def recall_source_digests(cache: Path, key: str) -> dict[NormalizedName, str] | None:
    """Return the digests, as they are now, of the sources that are remembered under *key*, or ``None``."""
    from imagesync.lock.lockfile.lock_entries import local_package

    known = read_cache(cache_path(cache / HASHES, "sources", key), key=_FORMAT)
    try:
        found = [
            replace(local_package(name, version, Source(**source)), content=content)
            for name, version, source, content in known or ()
        ]
    except (TypeError, ValueError, AttributeError):
        return None  # damaged
    return None if known is None else source_digests(with_digests(found, cache=cache))


def remember_sources(cache: Path, key: str, vendored: Iterable[VendoredPackage]) -> None:
    """Remember the sources of local packages under *key*.

    Parameters
    ----------
    cache
        The cache folder.
    key
        Digest of all that decides which ones these are.
    vendored
        As the lock file has them: with the digests that it names itself, and no others.
    """
    content = [
        [package.name, package.version, asdict(package.planned.source), package.content]
        for package in vendored
        if not package.repacked
    ]
    write_cache(cache_path(cache / HASHES, "sources", key), content, key=_FORMAT)


def recall_wheels(
    vendored: Iterable[VendoredPackage], plan: Plan, *, no_isolation: Sequence[str], cache: Path
) -> Mapping[NormalizedName, WheelContent]:
    """Return the content of the wheels of local packages, as far as it is known.

    Those beside the lock file must have the right digest; those of source trees are remembered.

    Parameters
    ----------
    vendored
        Local packages of a lock file.
    plan
        That of the lock file.
    no_isolation
        Names of the packages that are built without build isolation.
    cache
        The cache folder.
    """
    from imagesync.wheels.wheel_contents import WheelContent, archive_content, recall_contents

    here = [package for package in vendored if not package.repacked]
    digests = {package.name: package.content for package in here if not package.is_bundled}
    found = recall_contents(plan, digests, no_isolation=no_isolation, cache=cache)
    for package in here:
        source = package.planned.source
        wheel = local_path(source) if package.is_bundled else None
        if wheel is None:
            continue
        if content := archive_content(Path(wheel), source.hash or "", cache=cache):
            found[package.name] = WheelContent(content, package.version)
    return found
