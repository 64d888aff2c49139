"""Reading the archives of conda packages, without unpacking them: metadata, files and distributions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.names import canonical_name
from imagesync.core.scratch import scratch_folder
from imagesync.core.strict_json import load_json
from imagesync.errors import LockError
from imagesync.image_layout import PREFIX, site_packages
from imagesync.scan.conda.prefix_records import distribution_name

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.locked_packages import LockedConda
    from imagesync.store.store import Store, StoredFile

_FORMAT = 1  # raised when the same archive would give other files
_INDEX, _PATHS, _LINK = "info/index.json", "info/paths.json", "info/link.json"
_ENTRY_POINT = re.compile(r"\s*([^=\s]+)\s*=")
# Metadata folders and files; noarch packages have theirs in a site-packages without a version.
_METADATA = re.compile(
    r"((lib/python3\.\d+t?|Lib)/)?site-packages/([^/]+\.dist-info(?=/METADATA$)|[^/]+\.egg-info(?=/PKG-INFO$|$))",
)


@dataclass(frozen=True)
class ArchiveInfo:
    """The metadata in the archive of a conda package.

    Parameters
    ----------
    index
        The content of ``info/index.json``; empty if the archive has none.
    paths
        The entries of ``info/paths.json``, or the names alone in archives from before conda-build 3.
    entry_points
        Of a noarch Python package, as ``name = module:function``.
    """

    index: Mapping[str, Any]
    paths: Sequence[Mapping[str, Any]]
    entry_points: Sequence[str] = ()

    @property
    def distributions(self) -> tuple[NormalizedName, ...]:
        """Return the canonical names of the Python distributions in the archive, sorted."""
        found = (match for entry in self.paths if (match := _METADATA.match(entry["_path"])))
        return tuple(sorted({canonical_name(distribution_name(match[0])) for match in found}))


@dataclass(frozen=True)
class ArchiveFiles:
    """The files that a conda package puts into an environment.

    Parameters
    ----------
    files
        Paths relative to the prefix, each with its sha256 in hexadecimal: empty if it isn't known, and if
        the prefix is written into the file.
    """

    files: Mapping[str, str]

    @property
    def has_post_link(self) -> bool:
        """Return True if the package has a script that runs once it is installed."""
        return any(path.startswith("bin/.") and path.endswith("-post-link.sh") for path in self.files)

    @property
    def has_activation(self) -> bool:
        """Return True if the package takes part in activating the environment."""
        return any(
            (path.startswith("etc/conda/activate.d/") and path.endswith(".sh"))
            or (path.startswith("etc/conda/env_vars.d/") and path.endswith(".json"))
            for path in self.files
        )


def read_archives(archives: Iterable[StoredFile]) -> tuple[ArchiveInfo, ...]:
    """Return the metadata of each of *archives*.

    Raises
    ------
    LockError
        An archive can't be read.
    """
    from imagesync.core.worker_pool import WorkerPool

    with scratch_folder("archives") as folder, WorkerPool(4) as pool:
        return tuple(pool.map(lambda archive: _read(archive, folder), archives))


def read_archive_files(
    packages: Sequence[LockedConda], archives: Sequence[StoredFile], *, minor: str, store: Store
) -> tuple[ArchiveFiles, ...]:
    """Return the files of each of *packages*, in their order.

    *archives* are in the order of *packages*. *minor* is the feature version of the environment's Python,
    such as ``3.12``. The result is cached in *store*.

    Raises
    ------
    LockError
        An archive can't be read.
    """
    from imagesync.core.worker_pool import WorkerPool

    with scratch_folder("conda") as folder, WorkerPool(4) as pool:

        def read(package: LockedConda, archive: StoredFile) -> ArchiveFiles:
            # Only noarch Python packages have other paths with another Python.
            key = f"conda-contents {_FORMAT} {minor if package.noarch == 'python' else ''} {archive.digest}"
            known = store.recall(key)
            if known is not None:
                return ArchiveFiles(load_json(known.path.read_bytes()))
            files = _installed_files(package, _read(archive, folder), minor)
            text = json.dumps(files, sort_keys=True)
            name = f"{package.name}-{package.version}-{package.build}.files.json"
            store.remember(key, store.add(iter([text.encode()]), filename=name))
            return ArchiveFiles(files)

        return tuple(pool.map(read, packages, archives))


def archive_path(archive: StoredFile, folder: Path) -> Path:
    """Return a path in *folder* to an archive that has its suffix, which files in the store lack."""
    path = folder / archive.digest.removeprefix("sha256:") / archive.filename
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        try:
            path.symlink_to(archive.path)
        except OSError:  # Windows without the right to make links
            path.write_bytes(archive.path.read_bytes())
    return path


def archive_stem(archive: StoredFile) -> str:
    """Return the file name of an archive without its suffix: name, version and build."""
    return archive.filename.removesuffix(".conda").removesuffix(".tar.bz2")


def extract_archive(archive: StoredFile, folder: Path) -> Path:
    """Return the folder that an archive was extracted to, below *folder*.

    py-rattler writes nothing outside of it: it leaves out members with ``..`` and takes absolute names for
    relative ones.

    Raises
    ------
    LockError
        The archive can't be read.
    """
    from rattler.package_streaming import extract

    root = folder / "content"
    try:
        extract(archive_path(archive, folder), root)
    except Exception as error:
        # py-rattler's errors have no common base.
        raise _unreadable(archive, error) from error
    return root


def _read(archive: StoredFile, folder: Path) -> ArchiveInfo:
    import asyncio

    try:
        return asyncio.run(_read_metadata(archive_path(archive, folder)))
    except Exception as error:
        # py-rattler's errors have no common base.
        raise _unreadable(archive, error) from error


def _unreadable(archive: StoredFile, error: Exception) -> LockError:
    return LockError(
        f"The archive {archive.filename} can't be read: {error}",
        hint="If its channel gave a broken file, tell its owners; `imagesync cache prune` forgets what "
        "was fetched.",
    )


async def _read_metadata(path: Path) -> ArchiveInfo:
    from rattler.package_streaming import PackageArchive

    archive = await PackageArchive.from_path(path)
    found = await archive.read_files([_INDEX, _PATHS, _LINK])
    index, paths, link = (
        None if text is None else load_json(text) for text in map(found.get, (_INDEX, _PATHS, _LINK))
    )
    if paths is not None:
        entries = files_listed(paths)
    else:  # from before conda-build 3
        names = await archive.list_files("pkg")
        entries = files_listed({"paths": [{"_path": n} for n in names if not n.startswith("info/")]})
    noarch = link.get("noarch") or {} if link is not None else {}
    points = noarch.get("entry_points") or ()
    if not all(isinstance(point, str) for point in points):
        raise ValueError(f"its {_LINK} has an entry point that is no text")
    return ArchiveInfo(dict(index or {}), entries, points)


def files_listed(paths: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of the content of ``info/paths.json``.

    Raises
    ------
    ValueError
        One isn't a file below the prefix.
    """
    entries = paths["paths"] if isinstance(paths, Mapping) and "paths" in paths else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ValueError(f"its {_PATHS} is no list of files")
    for entry in entries:
        path, placeholder = entry.get("_path"), entry.get("prefix_placeholder") or ""
        if not isinstance(path, str) or not isinstance(placeholder, str):
            raise ValueError(f"its {_PATHS} has an entry without a path: {str(entry)[:80]}")  # noqa: TRY004
        # On Windows a backslash separates names; on Linux it is part of them, as of systemd's units.
        outside = path.startswith("\\") or ".." in path.replace("\\", "/").split("/")
        if outside or {"", "."}.intersection(path.split("/")) or "\0" in path:
            raise ValueError(f"it lists {path!r}, which leads out of the environment")
    return entries


def _installed_files(package: LockedConda, info: ArchiveInfo, minor: str) -> dict[str, str]:
    modules = site_packages(minor).relative_to(PREFIX).as_posix()
    is_python = package.noarch == "python"
    files: dict[str, str] = {}
    for entry in info.paths:
        path = _installed_path(entry["_path"], modules) if is_python else entry["_path"]
        files[path] = "" if entry.get("prefix_placeholder") else entry.get("sha256") or ""
    for point in info.entry_points if is_python else ():
        if (command := _ENTRY_POINT.match(point)) is not None:
            files[f"bin/{command[1]}"] = ""
    return files


def _installed_path(path: str, modules: str) -> str:
    first, _, rest = path.partition("/")
    if first == "python-scripts":
        return f"bin/{rest}"
    return f"{modules}/{rest}" if first == "site-packages" else path
