"""Folders for work under way, below one folder of the user's in the temporary folder.

Each is locked for as long as it is used. What a killed process has left there goes when the next one makes a
folder.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

KEPT: Final = ".kept"
"""The end of the names of folders that stay although nobody uses them."""
_LOCK: Final = ".lock"


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Provide an empty folder, and remove it afterwards.

    Parameters
    ----------
    purpose
        A word for its name, such as ``lock``.
    """
    parent = private_folder()
    if parent is None:
        with tempfile.TemporaryDirectory(
            prefix=f"imagesync-{purpose}-", ignore_cleanup_errors=True
        ) as temporary:
            yield Path(temporary).resolve()
        return
    remove_abandoned(parent)
    with fixed_folder(parent, f"{purpose}-{os.getpid()}-{os.urandom(4).hex()}") as folder:
        assert folder is not None  # noqa: S101  its name is new
        yield folder


@contextmanager
def fixed_folder(parent: Path, name: str) -> Iterator[Path | None]:
    """Provide the folder *name* in *parent*, empty, and remove it afterwards.

    Whoever wants the same waits for its end. It is ``None`` if what was there can't be removed.

    Parameters
    ----------
    parent
        A :func:`private_folder`.
    """
    from filelock import FileLock

    folder, path = parent / name, parent / f"{name}{_LOCK}"
    with FileLock(path, thread_local=False):
        try:
            if remove_tree(folder):  # of a process that was killed
                folder.mkdir(mode=0o700)
                yield folder
            else:
                yield None
        finally:
            remove_tree(folder)
            # Who waits for the lock notices that its file is gone, and makes another.
            with suppress(OSError):
                path.unlink()


def private_folder() -> Path | None:
    """Return a folder that only this user can write to; ``None`` if there is none.

    Anybody may create a folder of its name in the temporary folder.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()).resolve() / f"imagesync-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return None
    is_private = os.name == "nt" or (state.st_uid == user and not state.st_mode & 0o077)
    return folder if stat.S_ISDIR(state.st_mode) and is_private else None


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in *parent* that nobody uses any more, but for those that are kept.

    One may have no lock any more: a program that has outlived its killed process writes into it again.
    """
    from filelock import FileLock, Timeout

    found = [path for path in parent.iterdir() if path.suffix == _LOCK or path.is_dir()]
    for name in {path.name.removesuffix(_LOCK) for path in found if path.suffix != KEPT}:
        path = parent / f"{name}{_LOCK}"
        with suppress(Timeout, OSError), FileLock(path, timeout=0, thread_local=False):
            remove_tree(parent / name)
            path.unlink()


def remove_tree(folder: Path) -> bool:
    """Remove *folder* with what is in it, and return True if it isn't there any more.

    Builds leave read-only folders, as Go's module cache, and those in a container files of root.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir() and not folder.is_symlink():
        with suppress(OSError):
            folder.chmod(stat.S_IRWXU)
            for place, folders, files in os.walk(folder):
                # Windows removes no read-only file.
                for entry in (Path(place, name) for name in (*folders, *(files if os.name == "nt" else ()))):
                    if not entry.is_symlink():
                        entry.chmod(stat.S_IRWXU)
        shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)
