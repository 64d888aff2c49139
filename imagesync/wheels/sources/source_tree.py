"""Source trees: which files a project consists of, and one digest over all of them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path, PurePosixPath
from threading import Thread

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import WheelError
from imagesync.wheels.sources.stat_cache import MODE, Stat, digest_files, stat_of, stats_of

# Of the cached listing.
_FORMAT = 1
_VCS = frozenset({".git", ".hg", ".svn", ".bzr", "_darcs", "CVS"})
_CACHES = frozenset(
    {
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        ".ipynb_checkpoints",
        ".tox",
        ".nox",
        ".eggs",
        ".venv",
        "node_modules",
    }
)
# A package may have a module called "build", so these are outputs at the top of a project only.
_OUTPUTS = frozenset({"build", "dist", "_skbuild", "target", "venv", "wheelhouse", "htmlcov"})
_OUTPUT_SUFFIXES = (".egg-info", ".dist-info")
_CACHE_FILES = (".pyc", ".pyo", ".DS_Store", "Thumbs.db", ".coverage")
_SKIPPED = _VCS | _CACHES
_SKIPPED_SUFFIXES = (*_OUTPUT_SUFFIXES, *_CACHE_FILES)
# Of a mode, what says a file's kind; as `stat.S_IFMT`, without a call for each file.
_FORMAT_BITS = 0o170000
_FILES = frozenset({stat.S_IFREG, stat.S_IFLNK})
_GLOB = str.maketrans({character: "\\" + character for character in "\\*?["})


def source_digest(folder: Path, *, cache: Path | None = None) -> str:
    """Return the digest of the source tree below *folder*.

    It covers the files' names, their executable bits, their bytes, and where symbolic links
    point to. It doesn't cover times, owners, or where *folder* is.

    Parameters
    ----------
    cache
        A folder for what is known of unchanged files; it may be missing.

    Returns
    -------
    str
        ``sha256:<hex>``.

    Raises
    ------
    WheelError
        *folder* is gone, or a file in it can't be read.
    """
    began = time.time_ns()
    return digest_files(folder, source_stats(folder, cache=cache), began=began, cache=cache)


def source_files(folder: Path) -> list[str]:
    """Return the files that the project in *folder* consists of, relative to it, with ``/``.

    With git: what it tracks, and what it doesn't ignore; submodules and nested repositories
    likewise. Without: everything but caches, VCS folders, build outputs and virtual environments.
    The order is unspecified.

    Raises
    ------
    WheelError
        *folder* is gone, or a folder in it can't be read.
    """
    return list(source_stats(folder))


def source_stats(folder: Path, *, cache: Path | None = None) -> dict[str, Stat]:
    """Return what the file system says of each of the :func:`source_files`, links not followed.

    Parameters
    ----------
    cache
        A folder that keeps what git listed, to look at these files while git lists them again.

    Raises
    ------
    WheelError
        *folder* is gone, or a folder in it can't be read.
    """
    if not folder.is_dir():
        raise WheelError(
            f"The source folder {folder} is gone.",
            hint="Put it back, or install the package again from where the sources are now.",
        )
    top = repository_root(folder)
    stats = _tracked_or_not_ignored(folder, top, cache) if top is not None else None
    # A folder that its repository ignores as a whole is a project of its own.
    return _walk(folder) if stats is None else _with_nested(folder, stats)


def repository_root(folder: Path) -> Path | None:
    """Return the root of the git working tree that holds *folder*, or ``None``."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def is_cache_or_output(path: PurePosixPath) -> bool:
    """Return whether *path*, relative to its project, is a cache, a build output or a VCS folder.

    >>> is_cache_or_output(PurePosixPath("build")), is_cache_or_output(PurePosixPath("pkg/build"))
    (True, False)
    """
    return is_skipped(path.name, top=len(path.parts) == 1)


def is_skipped(name: str, *, top: bool) -> bool:
    """Return the same for a file or folder by its *name*, which lies at the *top* of its project or below."""
    return name in _SKIPPED or name.endswith(_SKIPPED_SUFFIXES) or (top and name in _OUTPUTS)


def git_environment() -> dict[str, str]:
    """Return this process's environment for git: no prompts, no locks taken, nothing of a calling hook's."""
    inherited = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
    environ = {key: value for key, value in os.environ.items() if key not in inherited}
    return environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


# Sources often belong to another user (a bind mount, a shared folder); reading them is no risk
# as long as git runs nothing that their configuration names.
GIT_OPTIONS = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")


def _tracked_or_not_ignored(folder: Path, top: Path, cache: Path | None) -> dict[str, Stat] | None:
    """Return what the file system says of the files that git lists; ``None`` where it lists none."""
    cached = None if cache is None else cache_path(cache, str(folder.absolute()), "listing")
    before = "" if cached is None else read_cache(cached, key=_FORMAT) or ""
    with _Listing(_list_command(folder, top), folder) as listing:
        # Most often it is the same again: the files are looked at while git is at it.
        stats = stats_of(folder, _names(before)) if before else {}
        listed = os.fsdecode(listing.wait())
    if not listed:
        return None  # no git here, not a repository that it can read, or nothing in it
    if listed != before:
        stats = stats_of(folder, _names(listed))
        if cached is not None:
            write_cache(cached, listed, key=_FORMAT)
    return stats


def _list_command(folder: Path, top: Path) -> list[str]:
    # Command-line patterns are anchored at the repository's root, and hold for untracked files only.
    anchor = "/" + "".join(part.translate(_GLOB) + "/" for part in folder.relative_to(top).parts)
    patterns = [*sorted(_CACHES), *(f"*{name}" for name in (*_OUTPUT_SUFFIXES, *_CACHE_FILES))]
    patterns += [anchor + name + "/" for name in sorted(_OUTPUTS)]
    excludes = [f"--exclude={pattern}" for pattern in patterns]
    return ["git", *GIT_OPTIONS, "ls-files", "-z", "-c", "-o", "--exclude-standard", *excludes]


class _Listing:
    """A run of git that lists files, while this process does something else."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._output = b""
        self._thread = Thread(target=self._run, name="git")

    def __enter__(self) -> _Listing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def wait(self) -> bytes:
        """Return what git says; nothing where it fails or isn't there."""
        self._thread.join()
        return self._output

    def _run(self) -> None:
        import subprocess

        with contextlib.suppress(OSError):
            done = subprocess.run(
                self._command,
                cwd=self._folder,
                env=git_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            self._output = done.stdout if done.returncode == 0 else b""


def _names(listed: str) -> list[str]:
    return list(dict.fromkeys(listed.split("\0")[:-1]))


def _with_nested(folder: Path, stats: dict[str, Stat]) -> dict[str, Stat]:
    """Return *stats* with the files of nested repositories in place of their folders."""
    for path in [path for path, found in stats.items() if found[MODE] & _FORMAT_BITS == stat.S_IFDIR]:
        del stats[path]
        nested = path.rstrip("/")
        # A submodule that was never checked out is an empty folder, and part of nothing.
        if (folder / nested / ".git").exists():
            inner = source_stats(folder / nested)
            stats.update({f"{nested}/{name}": found for name, found in inner.items()})
    return stats


def _walk(folder: Path) -> dict[str, Stat]:
    stats: dict[str, Stat] = {}
    folders = [""]
    while folders:
        inside = folders.pop()
        try:
            with os.scandir(f"{os.fspath(folder)}/{inside}") as entries:
                for entry in entries:
                    if is_skipped(entry.name, top=not inside):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if not is_environment(entry.path):
                            folders.append(f"{inside}{entry.name}/")
                        continue
                    try:
                        found = stat_of(entry.stat(follow_symlinks=False))
                    except FileNotFoundError:
                        continue  # deleted since it was listed
                    if found[MODE] & _FORMAT_BITS in _FILES:
                        stats[inside + entry.name] = found
        except OSError as error:
            raise WheelError(
                f"The source folder {folder / inside} can't be read: {error.strerror}.",
                hint="Make it readable, or install the package from somewhere else.",
            ) from error
    return stats


def is_environment(folder: str) -> bool:
    """Return whether *folder* is a virtual environment, or one of conda."""
    return os.path.lexists(f"{folder}/pyvenv.cfg") or os.path.lexists(f"{folder}/conda-meta")
