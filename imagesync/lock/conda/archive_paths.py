"""What an archive says of its own files (``info/paths.json``): the authority on what a package provides."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name

from imagesync.errors import FetchError
from imagesync.scan.conda.records import distribution_name
from imagesync.store.store import StoredFile

# Metadata folders and files; noarch packages have theirs in a site-packages of no version.
_METADATA = re.compile(
    r"((lib/python3\.\d+t?|Lib)/)?site-packages/([^/]+\.dist-info(?=/METADATA$)|[^/]+\.egg-info(?=/PKG-INFO$|$))",
)


def provided_by(files: Sequence[StoredFile]) -> tuple[tuple[NormalizedName, ...], ...]:
    """Return the canonical names of the distributions in each of the archives *files*, sorted.

    Raises
    ------
    FetchError
        An archive can't be read.
    """
    with tempfile.TemporaryDirectory(prefix="imagesync-archives-") as folder:
        return tuple(_distributions(_paths(file, Path(folder))) for file in files)


def _distributions(paths: Iterable[str]) -> tuple[NormalizedName, ...]:
    found = (match for path in paths if (match := _METADATA.match(path)))
    return tuple(sorted({canonicalize_name(distribution_name(match[0])) for match in found}))


def _paths(file: StoredFile, folder: Path) -> list[str]:
    from rattler.package import PathsJson

    # The format is known by the name, and in the store files have none.
    named = folder / file.filename
    try:
        named.symlink_to(file.path)
    except OSError:
        shutil.copyfile(file.path, named)
    try:
        return [Path(entry.relative_path).as_posix() for entry in PathsJson.from_package_archive(named).paths]
    except Exception as error:  # the library's errors have no common base
        raise FetchError(
            f"{file.filename} isn't a whole conda package: {error}",
            hint="Is the channel's file damaged? `imagesync cache prune` forgets what was fetched.",
        ) from error
