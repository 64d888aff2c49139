"""Source trees: the files of a project, and one digest over all of them."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from functools import partial
from pathlib import Path, PurePosixPath

from imagesync.core.background import BackgroundCall
from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.digests import sha256_of
from imagesync.core.stat_cache import MODE, Stat, digest_files, stat_of, stats_of
from imagesync.errors import WheelError

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
# The bits of a mode for the type of a file: `stat.S_IFMT` would cost a call for each file.
_FORMAT_BITS = 0o170000
_FILES = frozenset({stat.S_IFREG, stat.S_IFLNK})
# git adds no such path, but an index that was made by hand may have it, and git prints it.
_OUTSIDE = re.compile(r"/|(.*/)?(\.\.|\.git)(/|$)", re.IGNORECASE | re.DOTALL)
_GLOB = str.maketrans({character: "\\" + character for character in "\\*?["})
# Where a build says that it asks git: for a version, a commit, a list of files. A false match costs a wheel.
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "hatch_build.py", "meson.build", "CMakeLists.txt")
_ASKS_GIT = re.compile(
    rb"(?i)[-_]scm|vcs|versioneer|dynamic[-_]versioning|\bpbr\b|versioningit|setuptools[-_]git"
    rb"|(?<![\w.@/-])git(?![\w.+:@/-])"
)


def tree_digest(folder: Path, *, cache: Path | None = None) -> str:
    """Return the digest of the source tree below *folder*.

    It covers names, executable bits, bytes, and the targets of symbolic links. It doesn't cover times,
    owners, or the path of *folder*.

    Parameters
    ----------
    folder
        The top of the project.
    cache
        The folder of the cache, which may be missing; ``None`` for no cache.

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


def build_digest(folder: Path, *, cache: Path | None = None) -> str:
    """Return the digest of what a build in *folder* reads: the source tree, and git's state if it asks git.

    Parameters, exceptions and form are those of :func:`tree_digest`.
    """
    digest = tree_digest(folder, cache=cache)
    if not _asks_git(folder) or repository_root(folder) is None:
        return digest
    state = _git_state(folder)
    return sha256_of(f"{digest}\0{state}") if state else digest


def _asks_git(folder: Path) -> bool:
    for name in _BUILD_FILES:
        with contextlib.suppress(OSError):
            if _ASKS_GIT.search((folder / name).read_bytes()):
                return True
    return False


def _git_state(folder: Path) -> str:
    """Return commit, branch, tags and tracked files as one text; empty without a commit.

    Whether tracked files were edited follows from that and the source tree.
    """
    commands = (
        ("rev-parse", "HEAD", "--symbolic-full-name", "HEAD"),
        ("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags"),
        ("ls-files", "-z"),
    )
    calls = [BackgroundCall(partial(_git_output, ["git", *GIT_OPTIONS, *each], folder)) for each in commands]
    commit, *others = (os.fsdecode(call.result()) for call in calls)
    return "\0".join((commit, *others)).encode("utf-8", "replace").decode() if commit else ""


def source_files(folder: Path) -> list[str]:
    """Return the files of the project in *folder*, relative to it, with ``/``, in no particular order.

    In a git repository these are the files that git tracks or doesn't ignore, including those of submodules
    and nested repositories. Otherwise all files except caches, VCS folders, build outputs and virtual
    environments.

    Raises
    ------
    WheelError
        *folder* is gone, or a folder in it can't be read.
    """
    return list(source_stats(folder))


def source_stats(folder: Path, *, cache: Path | None = None) -> dict[str, Stat]:
    """Return the status of each of the :func:`source_files`, without following links.

    *cache* has the last listing of git, whose files are looked at while git lists again.

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
    return _walk(folder) if stats is None else _with_nested(folder, _without_linked(folder, stats))


def repository_root(folder: Path) -> Path | None:
    """Return the root of the git working tree that holds *folder*, or ``None``."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def is_cache_or_output(path: PurePosixPath) -> bool:
    """Return True if *path*, relative to its project, is a cache, a build output or a VCS folder.

    >>> is_cache_or_output(PurePosixPath("build")), is_cache_or_output(PurePosixPath("pkg/build"))
    (True, False)
    """
    return is_skipped(path.name, top=len(path.parts) == 1)


def is_skipped(name: str, *, top: bool) -> bool:
    """Return the same for a file or folder by *name*, at the *top* of its project or below."""
    return name in _SKIPPED or name.endswith(_SKIPPED_SUFFIXES) or (top and name in _OUTPUTS)


def git_environment() -> dict[str, str]:
    """Return environment variables for git: no prompts, no locks, no variables of a calling hook."""
    inherited = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
    environ = {key: value for key, value in os.environ.items() if key not in inherited}
    environ |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    # Nothing is fetched: a partial clone would ask its remote for what it lacks.
    return environ | {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1"}


# What a repository's configuration makes git run by itself is off.
NO_COMMANDS = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
# Sources often belong to another user (a bind mount, a shared folder); reading them is no risk
# as long as git runs nothing that their configuration names.
GIT_OPTIONS = ("-c", "safe.directory=*", *NO_COMMANDS, "-c", "core.sshCommand=false")


def _tracked_or_not_ignored(folder: Path, top: Path, cache: Path | None) -> dict[str, Stat] | None:
    """Return the status of the files that git lists; ``None`` if it lists none."""
    cached = None if cache is None else cache_path(cache, str(folder.absolute()), "listing")
    before = "" if cached is None else read_cache(cached, key=_FORMAT) or ""
    listing = BackgroundCall(lambda: _git_output(_list_command(folder, top), folder))
    # The listing is usually the same as before, so the files are looked at while git runs.
    stats = stats_of(folder, _names(before)) if before else {}
    listed = os.fsdecode(listing.result())
    if not listed:
        return None  # git is missing, can't read the repository, or lists no file
    if listed != before:
        stats = stats_of(folder, _names(listed))
        if cached is not None:
            write_cache(cached, listed, key=_FORMAT)
    return stats


def _list_command(folder: Path, top: Path) -> list[str]:
    # Patterns on the command line are relative to the repository's root, and apply to untracked files only.
    anchor = "/" + "".join(part.translate(_GLOB) + "/" for part in folder.relative_to(top).parts)
    patterns = [*sorted(_CACHES), *(f"*{name}" for name in (*_OUTPUT_SUFFIXES, *_CACHE_FILES))]
    patterns += [anchor + name + "/" for name in sorted(_OUTPUTS)]
    excludes = [f"--exclude={pattern}" for pattern in patterns]
    return ["git", *GIT_OPTIONS, "ls-files", "-z", "-c", "-o", "--exclude-standard", *excludes]


def _git_output(command: list[str], folder: Path) -> bytes:
    """Return the output of git; empty if it fails or is missing."""
    import subprocess

    with contextlib.suppress(OSError):
        done = subprocess.run(
            command,
            cwd=folder,
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else b""
    return b""


def _names(listed: str) -> list[str]:
    """Return the paths in the output of git, without those that lead out of the tree or into ``.git``."""
    return [path for path in dict.fromkeys(listed.split("\0")[:-1]) if not _OUTSIDE.match(path)]


def _without_linked(folder: Path, stats: dict[str, Stat]) -> dict[str, Stat]:
    """Return *stats* without files beyond a link, which git lists if a link has replaced their folder."""
    folders: set[str] = set()
    for path in stats:
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders.add(path)
    base = os.fspath(folder) + "/"
    links = tuple(inside + "/" for inside in folders if os.path.islink(base + inside))  # noqa: PTH114
    return {path: found for path, found in stats.items() if not path.startswith(links)} if links else stats


def _with_nested(folder: Path, stats: dict[str, Stat]) -> dict[str, Stat]:
    """Return *stats* with the files of nested repositories in place of their folders."""
    for path in [path for path, found in stats.items() if found[MODE] & _FORMAT_BITS == stat.S_IFDIR]:
        del stats[path]
        nested = path.rstrip("/")
        # A submodule that was never checked out is an empty folder.
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
    """Return True if *folder* is a virtual environment or a conda environment."""
    return os.path.lexists(f"{folder}/pyvenv.cfg") or os.path.lexists(f"{folder}/conda-meta")
