"""What the archives of conda packages hold, read without unpacking them."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.errors import LockError
from imagesync.image_layout import PREFIX, site_packages

if TYPE_CHECKING:
    from imagesync.lock.lock import LockedConda
    from imagesync.store.store import Store, StoredFile

_FORMAT = 1  # raised when the same archive would give other contents
_PATHS, _LINK = "info/paths.json", "info/link.json"
_ENTRY_POINT = re.compile(r"\s*([^=\s]+)\s*=")


@dataclass(frozen=True)
class Contents:
    """The files that a conda package puts into an environment.

    Parameters
    ----------
    files
        Paths relative to the prefix, each with its sha256 in hexadecimal; empty where nothing says, and
        where the prefix is written into the file.
    """

    files: Mapping[str, str]

    @property
    def has_post_link(self) -> bool:
        """Return whether a script of the package runs once it is installed."""
        return any(path.startswith("bin/.") and path.endswith("-post-link.sh") for path in self.files)

    @property
    def has_activation(self) -> bool:
        """Return whether the package takes part in activating the environment."""
        return any(
            (path.startswith("etc/conda/activate.d/") and path.endswith(".sh"))
            or (path.startswith("etc/conda/env_vars.d/") and path.endswith(".json"))
            for path in self.files
        )


def read_contents(
    packages: Sequence[LockedConda], archives: Sequence[StoredFile], *, minor: str, store: Store
) -> tuple[Contents, ...]:
    """Return what the archives of *packages* put into an environment, in their order.

    Parameters
    ----------
    archives
        Those of the packages, in the same order.
    minor
        The feature version of the environment's Python, such as ``3.12``.
    store
        Keeps what was read.

    Raises
    ------
    LockError
        An archive can't be read.
    """
    with tempfile.TemporaryDirectory(prefix="imagesync-conda-") as folder, ThreadPoolExecutor(4) as pool:

        def read(package: LockedConda, archive: StoredFile) -> Contents:
            # Other packages have the same paths whatever Python the environment has.
            key = f"conda-contents {_FORMAT} {minor if package.noarch == 'python' else ''} {archive.digest}"
            known = store.recall(key)
            if known is not None:
                return Contents(json.loads(known.path.read_bytes()))
            contents = _read(package, archive, Path(folder), minor)
            text = json.dumps(dict(contents.files), sort_keys=True)
            name = f"{package.name}-{package.version}-{package.build}.files.json"
            store.remember(key, store.add(iter([text.encode()]), filename=name))
            return contents

        return tuple(pool.map(read, packages, archives))


def named(archive: StoredFile, folder: Path) -> Path:
    """Return a path of an archive that ends as its format wants; the store knows files by their digests."""
    path = folder / archive.digest.removeprefix("sha256:") / archive.filename
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        try:
            path.symlink_to(archive.path)
        except OSError:  # Windows without the right to make links
            path.write_bytes(archive.path.read_bytes())
    return path


def _read(package: LockedConda, archive: StoredFile, folder: Path, minor: str) -> Contents:
    try:
        entries, link = asyncio.run(_information(named(archive, folder)))
    except Exception as error:
        # py-rattler has a kind of exception for each of its layers.
        raise LockError(
            f"The archive {archive.filename} can't be read: {error}",
            hint="If its channel gave a broken file, tell its owners; the lock names what was asked for.",
        ) from error
    modules = site_packages(minor).relative_to(PREFIX).as_posix()
    files: dict[str, str] = {}
    for entry in entries:
        path = _installed(entry["_path"], modules) if package.noarch == "python" else entry["_path"]
        files[path] = "" if entry.get("prefix_placeholder") else entry.get("sha256") or ""
    for point in link.get("noarch", {}).get("entry_points", ()) if package.noarch == "python" else ():
        if (command := _ENTRY_POINT.match(point)) is not None:
            files[f"bin/{command[1]}"] = ""
    return Contents(files)


async def _information(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from rattler.package_streaming import PackageArchive

    archive = await PackageArchive.from_path(path)
    found = await archive.read_files([_PATHS, _LINK])
    paths, link = found[_PATHS], found[_LINK]
    if paths is not None:
        entries = json.loads(paths)["paths"]
    else:  # made before conda-build 3
        names = await archive.list_files("pkg")
        entries = [{"_path": name} for name in names if not name.startswith("info/")]
    return entries, json.loads(link) if link is not None else {}


def _installed(name: str, modules: str) -> str:
    first, _, rest = name.partition("/")
    if first == "python-scripts":
        return f"bin/{rest}"
    return f"{modules}/{rest}" if first == "site-packages" else name
