"""A cache folder that can only be read: another user's, or one on a disk without a right to write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from imagesync.store.layout import BLOBS, IMAGES, IN_USE, INTERPRETERS, LOCKS, LOGS, PARTIAL, store_errors

_WRITTEN: Final = ("", BLOBS, IMAGES, IN_USE, PARTIAL)
"""Folders that most commands write to."""
_LEFT_OUT: Final = frozenset({IN_USE, INTERPRETERS, LOCKS, LOGS, PARTIAL})
"""Folders of running processes, and those with trees of other programs."""


def is_read_only(root: Path) -> bool:
    """Return True if the cache folder *root* is there, and can be read but not written to."""
    if not os.access(root, os.R_OK | os.X_OK):
        return False
    folders = (root / name for name in _WRITTEN)
    return any(os.access(folder, os.F_OK) and not os.access(folder, os.W_OK) for folder in folders)


def link_entries(root: Path, folder: Path) -> None:
    """Fill the empty *folder* with links to the files of the cache folder *root*.

    As a cache folder it has the same entries then: what is written takes the place of a link.

    Raises
    ------
    StoreError
        A folder can't be read, or there is no space for the links.
    """
    root = root.resolve()

    def refuse(error: OSError) -> None:
        raise error

    with store_errors(root):
        for place, folders, files in os.walk(root, onerror=refuse):
            target = folder / Path(place).relative_to(root)
            target.mkdir(mode=0o700, exist_ok=True)
            folders[:] = [name for name in folders if target != folder or name not in _LEFT_OUT]
            for name in files:
                if not name.endswith(".lock"):
                    (target / name).symlink_to(Path(place, name))


def new_files(folder: Path) -> tuple[int, int]:
    """Return the number and the size of the artifacts in a folder of links that are no links."""
    sizes = [path.stat().st_size for path in (folder / BLOBS).glob("*/*") if not path.is_symlink()]
    return len(sizes), sum(sizes)
