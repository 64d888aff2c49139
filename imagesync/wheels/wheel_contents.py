"""What a wheel holds, as one digest, remembered by what the wheel was made from.

A notebook or a lock file beside ``pyproject.toml`` changes the digest of a project's sources, and so costs a
wheel build. It leaves the wheel as it is, and so the image, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.digests import file_hexdigest
from imagesync.core.files import read_chunks
from imagesync.core.names import canonical_pattern, matches
from imagesync.store.layout import HASHES

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.plan.plan import Plan, PlannedPackage

_FORMAT = 2
# Lists the other files, or signs that list.
_RECORDS = ("RECORD", "RECORD.jws", "RECORD.p7s")


class WheelContent(NamedTuple):
    """What is remembered of a wheel.

    Parameters
    ----------
    digest
        ``sha256:<hex>`` over its files and metadata.
    version
        Its version, which may differ from that of the installed distribution.
    """

    digest: str
    version: str


def content_digest(wheel: Path) -> str:
    """Return ``sha256:<hex>`` over the names, executable bits and bytes of the files in a wheel.

    Neither the archive's order, times and compression count, nor which build back-end wrote it (``Generator``
    in ``WHEEL``).
    """
    import zipfile

    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            folder, _, name = member.filename.rpartition("/")
            is_metadata = folder.endswith(".dist-info") and "/" not in folder
            if member.is_dir() or (is_metadata and name in _RECORDS):
                continue
            if is_metadata and name == "WHEEL":
                lines = archive.read(member).splitlines()
                kept = b"\n".join(line for line in lines if not line.startswith(b"Generator:"))
                content = hashlib.sha256(kept)
            else:
                content = hashlib.sha256()
                with archive.open(member) as file:
                    for chunk in read_chunks(file):
                        content.update(chunk)
            executable = member.external_attr >> 16 & 0o100 != 0
            digest.update(f"{member.filename}\0{executable}\0{content.hexdigest()}\0".encode())
    return f"sha256:{digest.hexdigest()}"


def archive_content(wheel: Path, digest: str, *, cache: Path) -> str:
    """Return the :func:`content_digest` of a wheel, remembered by the digest of its archive.

    Parameters
    ----------
    wheel
        The path of the wheel.
    digest
        Of the archive, ``sha256:<hex>``.
    cache
        The cache folder.

    Returns
    -------
    str
        Empty if the file isn't there, or isn't a wheel of that digest.
    """
    path = cache_path(cache / HASHES, "archive", digest)
    if (known := read_cache(path, key=_FORMAT)) is not None:
        return str(known)
    from imagesync.core.archive_members import ZIP_DAMAGE

    try:
        if digest != f"sha256:{file_hexdigest(wheel)}":
            return ""
        content = content_digest(wheel)
    except ZIP_DAMAGE:
        return ""
    write_cache(path, content, key=_FORMAT)
    return content


def recall_contents(
    plan: Plan, source_digests: Mapping[NormalizedName, str], *, no_isolation: Sequence[str], cache: Path
) -> dict[NormalizedName, WheelContent]:
    """Return the cached contents of the wheels of *plan*, by name.

    Parameters
    ----------
    plan
        The plan.
    source_digests
        For each vendored package the digest of what its wheel is made from.
    no_isolation
        Names or patterns of packages that are built without build isolation.
    cache
        The cache folder.
    """
    found = {}
    for name, source_digest in source_digests.items():
        path = _path(plan, name, source_digest, no_isolation, cache)
        known = read_cache(path, key=_FORMAT)
        # A damaged entry counts as none.
        if isinstance(known, list) and len(known) == 2 and all(isinstance(text, str) for text in known):
            found[name] = WheelContent(*known)
    return found


def first_sources(
    plan: Plan, source_digests: Mapping[NormalizedName, str], *, no_isolation: Sequence[str], cache: Path
) -> dict[NormalizedName, str]:
    """Return *source_digests*, each replaced by the first one that gave the same wheel, as far as remembered.

    What is compared by the sources of a wheel is the same then although a README was written beside them.
    The parameters are those of :func:`recall_contents`.
    """
    first = dict(source_digests)
    for name, content in recall_contents(
        plan, source_digests, no_isolation=no_isolation, cache=cache
    ).items():
        path = _path(plan, name, content.digest, no_isolation, cache)
        known = read_cache(path, key=_FORMAT)
        first[name] = known if isinstance(known, str) else source_digests[name]
    return first


def remember_content(
    plan: Plan,
    name: NormalizedName,
    source_digest: str,
    content: WheelContent,
    *,
    no_isolation: Sequence[str],
    cache: Path,
) -> None:
    """Remember what is in the wheel of a package of *plan* that was made from *source_digest*."""
    path = _path(plan, name, source_digest, no_isolation, cache)
    if read_cache(path, key=_FORMAT) != list(content):
        write_cache(path, content, key=_FORMAT)
    path = _path(plan, name, content.digest, no_isolation, cache)
    if read_cache(path, key=_FORMAT) is None:
        write_cache(path, source_digest, key=_FORMAT)


def installed_for_builds(
    plan: Plan, packages: Iterable[PlannedPackage], no_isolation: Sequence[str]
) -> tuple[str, ...]:
    """Return the installed versions that builds of *packages* may use, ``<name>==<version>`` each.

    Parameters
    ----------
    plan
        The plan.
    packages
        Packages of *plan*.
    no_isolation
        Names or patterns of packages that are built without build isolation, or ``auto``.

    Returns
    -------
    tuple
        Empty if all are built in isolation.
    """
    patterns = [canonical_pattern(entry) for entry in no_isolation]
    retried = "auto" in no_isolation
    if not any(matches(patterns, p.name) or (retried and p.source.kind == "directory") for p in packages):
        return ()
    installed = {
        *(f"{package.name}=={package.version}" for package in plan.packages),
        *(f"{package.name}=={package.version}" for package in plan.conda),
        *(f"{package.name}=={package.version}" for package in plan.left_out),
    }
    return tuple(sorted(installed))


def _path(plan: Plan, name: NormalizedName, digest: str, no_isolation: Sequence[str], cache: Path) -> Path:
    packages = [package for package in plan.packages if package.name == name]
    # The installed version is what builds are told where the version is in no file.
    versions = [package.version for package in packages]
    installed = installed_for_builds(plan, packages, no_isolation)
    is_unisolated = matches([canonical_pattern(entry) for entry in no_isolation], name)
    platforms = (plan.python.platform, plan.platform.name)
    made_by = (plan.python.minor, *platforms, versions, is_unisolated, installed)
    return cache_path(cache / HASHES, "wheel", name, digest, *made_by)
