"""Digests of the sources of local wheels, known before anything is built.

They cover untracked inputs as well: files in a wheel that git ignores, or that lie beside the source tree. No
list of sources has them, but the wheel does. A file that once was in a wheel counts from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.credentials import strip_credentials
from imagesync.core.digests import sha256_of_json
from imagesync.core.stat_cache import file_digests
from imagesync.errors import WheelError
from imagesync.plan.checks.sources import has_only_installed_files, local_path
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.distributions.metadata import installed_files
from imagesync.scan.environment import Package
from imagesync.scan.modifications.modification import Modification
from imagesync.wheels.sources.eggs import egg_digest
from imagesync.wheels.sources.source_tree import build_digest

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_FORMAT = 2


def has_record(package: Package) -> bool:
    """Return True if *package* has a RECORD; the file lists of egg-info folders have no hashes."""
    return bool(package.metadata_path) and Path(package.metadata_path, "RECORD").is_file()


def record_digest(package: Package | None) -> str:
    """Return ``sha256:<hex>`` over the entries of RECORD; empty without a RECORD.

    Scripts are omitted, because they contain the path of the interpreter.
    """
    if package is None or not has_record(package):
        return ""
    content = hashlib.sha256()
    for file in installed_files(package):
        if not file.path.startswith("../"):
            content.update(os.fsencode(f"{file.path}\0{file.hash}\0"))
    return "sha256:" + content.hexdigest()


def installed_digest(package: Package | None, modification: Modification | None) -> str:
    """Return ``sha256:<hex>`` over the installed files of *package*; empty without RECORD.

    Parameters
    ----------
    package
        The installed package; ``None`` if none is known.
    modification
        Their difference to RECORD; ``None`` if there is none.
    """
    if package is not None and package.is_egg:
        return egg_digest(package)
    if not (record := record_digest(package)):
        return ""
    identity: dict[str, object] = {"record": record}
    if modification is not None:
        identity["edited"] = {**modification.edited, **dict.fromkeys(modification.missing, "")}
        identity["added"] = dict(modification.added)
    return sha256_of_json(identity)


def digest_sources(plan: Plan, *, cache: Path | None = None) -> Mapping[NormalizedName, str]:
    """Return the digest of the sources of each vendored package of *plan*.

    Parameters
    ----------
    plan
        The plan.
    cache
        The folder of the digests of unchanged files; ``None`` for no cache.

    Returns
    -------
    Mapping
        Canonical name to ``sha256:<hex>`` over the files of a source tree and the untracked inputs of its
        wheels; over the URL without credentials, the commit and the subdirectory of a checkout; over the hash
        of an archive. Edits of installed files count as well.

    Raises
    ------
    WheelError
        A source folder is missing, or can't be read.
    """
    return {
        package.name: package_digest(package, cache=cache) for package in plan.packages if package.vendored
    }


def package_digest(package: PlannedPackage, *, cache: Path | None = None) -> str:
    """Return the digest of the sources of *package*, ``sha256:<hex>``."""
    source = package.source
    if package.as_installed:
        return installed_digest(package.installed, package.modification)
    if source.kind == "directory" and not has_only_installed_files(package):
        try:
            folder = source_folder(package)
            return _with_untracked_inputs(folder, build_digest(folder, cache=cache), cache=cache)
        except WheelError as error:
            raise WheelError(
                f"{package.name} {package.version}: {error.message}",
                hint=f"{error.hint} Or leave the package out: --ignore {package.name}",
            ) from error
    identity: dict[str, object] = {"kind": source.kind, "subdirectory": source.subdirectory}
    url = None if source.url is None else strip_credentials(source.url)
    if source.kind == "vcs" and source.commit:
        identity |= {"vcs": source.vcs, "url": url, "commit": source.commit}
    elif source.kind == "archive" and source.hash:
        identity |= {"hash": source.hash}
    else:
        identity |= {"url": url}
    # Another build of the same commit or archive may have other files, and the image gets the installed ones.
    identity["record"] = record_digest(package.installed)
    if package.modification is not None:
        identity["modified"] = package.modification.digest
    return sha256_of_json(identity)


def source_folder(package: PlannedPackage) -> Path:
    """Return the folder of the ``file://`` URL of *package* (RFC 8089).

    Raises
    ------
    WheelError
        The URL isn't a ``file://`` URL.
    """
    folder = local_path(package.source)
    if folder is None:
        raise WheelError(
            f"{package.name} {package.version} was installed from {package.source.url}, which is no folder.",
            hint="Install it again from its folder.",
        )
    return Path(folder)


def untracked_inputs(folder: Path, *, cache: Path | None) -> tuple[str, ...]:
    """Return the untracked inputs of the wheels of *folder*, relative to it, with ``/``."""
    known = None if cache is None else read_cache(_cache_path(folder, cache), key=_FORMAT)
    return tuple(known or ())


def _with_untracked_inputs(folder: Path, digest: str, *, cache: Path | None) -> str:
    """Return *digest*, of the source tree *folder*, combined with the untracked inputs of its wheels.

    Raises
    ------
    WheelError
        A file can't be read.
    """
    paths = untracked_inputs(folder, cache=cache)
    return _joined(digest, file_digests(folder, paths, scope="untracked", cache=cache) if paths else {})


def record_untracked_inputs(
    folder: Path,
    wheel: Path,
    candidates: Mapping[str, int],
    *,
    digest: str,
    listed: Collection[str],
    cache: Path,
) -> str:
    """Record which *candidates* are in the new *wheel* of the source tree *folder*.

    *candidates* has the size of each untracked file that the build could read, by absolute path. *digest* and
    *listed* are those of the source tree.

    Returns
    -------
    str
        The digest of the source tree with its untracked inputs, for :func:`package_digest` from now on.
    """
    relative = {os.path.relpath(path, folder).replace(os.sep, "/"): path for path in candidates}
    sizes = {path: candidates[absolute] for path, absolute in relative.items()}
    used = dict(_matches(wheel, folder, sizes, listed))
    # Inputs of earlier wheels still count: a generated file may reappear.
    before = untracked_inputs(folder, cache=cache)
    if not set(used) <= set(before):
        write_cache(_cache_path(folder, cache), sorted({*used, *before}), key=_FORMAT)
    others = [path for path in before if path not in used]
    return _joined(digest, {**file_digests(folder, others, scope="", cache=None), **used})


def _joined(digest: str, inputs: Mapping[str, str]) -> str:
    if not inputs:
        return digest
    return sha256_of_json([digest, sorted(inputs.items())])


def _matches(
    wheel: Path, folder: Path, sizes: Mapping[str, int], listed: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield path and sha256 of the files with the content of a member that is no listed file."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        members = [info for info in archive.infolist() if ".dist-info/" not in info.filename]
        common_sizes = {info.file_size for info in members} & set(sizes.values())
        names: dict[str, list[str]] = {}
        for info in members:
            if info.file_size in common_sizes and not info.is_dir():
                content = hashlib.sha256(archive.read(info)).hexdigest()
                names.setdefault(content, []).append(info.filename)
    for path, size in sizes.items():
        if size not in common_sizes:
            continue
        try:
            sha256 = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        except OSError:
            continue
        found = names.get(sha256, [])
        if path.startswith("../"):
            # Copies of the project, say, lie beside it: what it has itself isn't taken from there.
            found = [name for name in found if not _is_in_tree(name, sha256, folder, listed)]
        # The name in the wheel may differ (hatchling's force-include), unless a source file has that name.
        if _ends(path, found) or (size and not all(_is_listed(name, listed) for name in found)):
            yield path, sha256


def _ends(path: str, names: Collection[str]) -> bool:
    return any(f"/{path}".endswith(f"/{name}") for name in names)


def _is_listed(name: str, listed: Collection[str]) -> bool:
    return any(_ends(path, (name,)) for path in listed)


def _is_in_tree(name: str, sha256: str, folder: Path, listed: Collection[str]) -> bool:
    for path in listed:
        if _ends(path, (name,)):
            with contextlib.suppress(OSError):
                if hashlib.sha256((folder / path).read_bytes()).hexdigest() == sha256:
                    return True
    return False


def _cache_path(folder: Path, cache: Path) -> Path:
    return cache_path(cache, str(folder.absolute()), "untracked inputs")
