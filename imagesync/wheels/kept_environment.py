"""The environment that a package's build back-end ran in, kept for the build after the next edit.

It is beside the build folder of the package, and its path in a build is the same each time. One that a build
has changed isn't kept: each build gets an environment as it was made.
"""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagesync.core.cache_file import read_cache, write_cache
from imagesync.core.scratch import KEPT, private_folder, remove_tree

_ENVIRONMENT = "env"
_STATE = "state.json"


@dataclass(frozen=True)
class KeptEnvironment:
    """The place of the environment of one package, for whoever has the package's build folder.

    Parameters
    ----------
    folder
        Holds the environment, and what it must look like.
    """

    folder: Path

    def take(self, key: str, into: Path) -> bool:
        """Move the environment to *into*, and return True, if it was made by *key* and is unchanged."""
        environment = self.folder / _ENVIRONMENT
        known = read_cache(self.folder / _STATE, key=key)
        try:
            if known is None or known != environment_state(environment):
                return False
            environment.rename(into)
        except OSError:
            return False
        return True

    def keep(self, environment: Path, *, key: str, state: str) -> None:
        """Take *environment*, which was made by *key*, unless it isn't in *state* any more."""
        # A full disk, or another file system, costs the next build some time.
        with suppress(OSError):
            if not remove_tree(self.folder) or environment_state(environment) != state:
                return
            self.folder.mkdir(mode=0o700)
            environment.rename(self.folder / _ENVIRONMENT)
            write_cache(self.folder / _STATE, state, key=key)


def kept_environment(folder: Path, name: str) -> KeptEnvironment | None:
    """Return the place for the environment of the package *name* that is built in *folder*.

    ``None`` if the folder has another path in each build.
    """
    parent = private_folder()
    return None if parent is None or folder != parent / name else KeptEnvironment(parent / f"{name}{KEPT}")


def remove_kept(*, older_than: float | None = None) -> tuple[int, int]:
    """Remove the environments that builds have kept, and return the number and the size of their files.

    That of a package that is being built stays.

    Parameters
    ----------
    older_than
        Remove only those that no build took or kept for so many seconds; ``None`` removes all.
    """
    from filelock import FileLock, Timeout

    parent = private_folder()
    files = size = 0
    for folder in () if parent is None else sorted(parent.glob(f"*{KEPT}")):
        with suppress(OSError):
            if older_than is not None and _last_use(folder) > time.time() - older_than:
                continue
            lock = folder.with_suffix(".lock")
            with suppress(Timeout), FileLock(lock, timeout=0, thread_local=False):
                sizes = list(_sizes(folder))
                if remove_tree(folder):
                    files, size = files + len(sizes), size + sum(sizes)
                # Who waits for the lock notices that its file is gone, and makes another.
                lock.unlink()
    return files, size


def _last_use(folder: Path) -> float:
    state = folder / _STATE
    return (state if state.is_file() else folder).stat().st_mtime


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        state = path.lstat()
        if stat.S_ISREG(state.st_mode):
            yield state.st_size


def environment_state(folder: Path) -> str:
    """Return a digest of the paths, sizes, times and modes of the files in an environment.

    Raises
    ------
    OSError
        It can't be read.
    """
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        facts: list[object] = [str(path.relative_to(folder)), state.st_mode]
        # A folder changes with what is in it.
        if not stat.S_ISDIR(state.st_mode):
            facts += [state.st_size, state.st_mtime_ns]
        found.update(f"{facts}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
