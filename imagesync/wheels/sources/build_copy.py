"""Copies of source trees that builds may write into, so that the user's files stay unchanged.

Files that git ignores, or that lie beside the project in its repository, belong to the copy: folders are new,
and files are copied within a limit. Beyond it files are linked one by one: additions, replacements and
removals stay in the copy, and only writing into a file in place would change the user's file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from imagesync.errors import WheelError
from imagesync.wheels.sources.source_tree import (
    GIT_OPTIONS,
    git_environment,
    is_cache_or_output,
    is_environment,
    is_skipped,
    repository_root,
    source_files,
)

# A copy or link takes 20 to 200 microseconds, and a build after an edit should take about a second.
_COPIED_FILES = 1000
_COPIED_BYTES = 128 << 20
# A folder with more files is linked as a whole.
_LINKED_FILES = 20_000
# The limit for files beside the project, of which builds read few and hardly ever write any.
_FILES_BESIDE = 200


@dataclass
class UntrackedFiles:
    """The files of a copy beside the source files.

    Parameters
    ----------
    sizes
        The size of each file in bytes, by original path.
    linked
        The size and modification time of each linked file, by original path.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    linked: dict[str, tuple[int, int]] = field(default_factory=dict)
    _files: int = _COPIED_FILES
    _bytes: int = _COPIED_BYTES

    def changed(self) -> list[str]:
        """Return the linked files that have changed since they were added."""
        return [path for path, known in self.linked.items() if _state(path) != known]

    def add(self, contents: list[Content]) -> None:
        """Add *contents* to the copy: single files first, then folders, the smallest first."""
        for content in sorted(contents, key=lambda content: (content.is_folder, len(content.files))):
            if content.too_many:
                _link(content.source, content.copy)
                continue
            for folder in content.folders:
                Path(folder).mkdir(parents=True, exist_ok=True)
            size = sum(file.st_size for _, _, file in content.files)
            copied = len(content.files) <= self._files and size <= self._bytes
            if copied:
                self._files -= len(content.files)
                self._bytes -= size
            for source, copy, state in content.files:
                self.sizes[source] = state.st_size
                if copied:
                    _copy(source, copy, state)
                else:
                    self.linked[source] = (state.st_size, state.st_mtime_ns)
                    _link(source, copy)
        # At the end, because a link may lead into another of the folders.
        for content in contents:
            for source, copy in content.links:
                _copy_link(source, copy)


@dataclass
class Content:
    """A file, or a folder with all its files; each with its path and its path in the copy."""

    source: str
    copy: str
    is_folder: bool
    folders: list[str] = field(default_factory=list)
    files: list[tuple[str, str, os.stat_result]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    too_many: bool = False


def _ignored_files(folder: Path, copy: Path, *, listed: Iterable[str]) -> list[Content]:
    """Return the files that aren't *listed* in folders with listed files, except caches and build outputs."""
    folders = {PurePosixPath(".")}
    for path in listed:
        folders.update(PurePosixPath(path).parents)
    found = []
    for inside in sorted(folders):
        for entry in _entries(folder / inside):
            target = copy / inside / entry.name
            skipped = is_cache_or_output(inside / entry.name) or is_environment(entry.path)
            if not skipped and not os.path.lexists(target):
                found.append(_content(entry, os.fspath(target), limit=_LINKED_FILES))
    return found


def _neighbouring_files(root: Path, folder: Path, into: Path) -> list[Content]:
    """Return the files beside *folder* and its parents, up to the *root* of the repository."""
    found = []
    left = _FILES_BESIDE
    for parent in folder.relative_to(root).parents:
        for entry in _entries(root / parent):
            target = into / parent / entry.name
            if entry.name != ".git" and not os.path.lexists(target):
                content = _content(entry, os.fspath(target), limit=left)
                left -= 0 if content.too_many else len(content.files)
                found.append(content)
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _content(entry: os.DirEntry[str], copy: str, *, limit: int) -> Content:
    content = Content(entry.path, copy, entry.is_dir(follow_symlinks=False))
    if is_skipped(entry.name, top=False) or is_environment(entry.path):
        content.too_many = True  # a cache beside the project: a link is enough
        return content
    _add(content, entry, copy)
    folders = [(entry.path, copy)] if content.is_folder else []
    while folders and not content.too_many:
        source, place = folders.pop()
        for inner in _entries(Path(source)):
            if is_skipped(inner.name, top=False) or is_environment(inner.path):
                continue
            inner_place = f"{place}/{inner.name}"
            _add(content, inner, inner_place)
            if inner.is_dir(follow_symlinks=False):
                folders.append((inner.path, inner_place))
        content.too_many = len(content.files) > limit
    return content


def _add(content: Content, entry: os.DirEntry[str], copy: str) -> None:
    with contextlib.suppress(OSError):  # gone since it was listed
        if entry.is_symlink():
            content.links.append((entry.path, copy))
        elif entry.is_dir(follow_symlinks=False):
            content.folders.append(copy)
        elif stat.S_ISREG((state := entry.stat(follow_symlinks=False)).st_mode):
            content.files.append((entry.path, copy, state))


def _state(path: str) -> tuple[int, int] | None:
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _copy(source: str, copy: str, state: os.stat_result) -> None:
    # An unreadable file is missing from the copy; a build that needs it fails with a message.
    with contextlib.suppress(OSError):
        shutil.copy2(source, copy)
        if not state.st_mode & stat.S_IWUSR:
            Path(copy).chmod(stat.S_IMODE(state.st_mode) | stat.S_IWUSR | stat.S_IRUSR)


def _link(source: str, copy: str) -> None:
    with contextlib.suppress(OSError):
        _make_link(Path(copy), source, like=Path(source))


def _make_link(path: Path, target: str, *, like: Path) -> None:
    """Make *path* a link to *target*, or a copy of the file *like* where no link can be made."""
    try:
        path.symlink_to(target)
    except FileExistsError:
        raise
    except OSError:
        if not like.is_file():
            raise
        shutil.copy2(like, path)


def _copy_link(source: str, copy: str) -> None:
    """Create a link to the target of the link *source*, or to the copy of the target."""
    with contextlib.suppress(OSError):
        target = Path(source).readlink()
        is_outside = target.is_absolute() or not (Path(copy).parent / target).exists()
        _make_link(Path(copy), os.fspath(Path(source).resolve() if is_outside else target), like=Path(source))


@dataclass(frozen=True)
class BuildCopy:
    """The copy of a source tree.

    Parameters
    ----------
    folder
        The project's folder in the copy.
    files
        The source files, relative to *folder*.
    untracked
        The files that the copy has beside the source files.
    commit
        The commit that its repository is at, in hexadecimal; empty without one.
    """

    folder: Path
    files: Sequence[str]
    untracked: UntrackedFiles
    commit: str = ""


def copy_for_build(folder: Path, into: Path) -> BuildCopy:
    """Copy the source tree *folder* into the empty folder *into*.

    The copy has the files that the digest covers. It also has files that git ignores, because a build may
    use or rewrite a generated file, and the files beside *folder* in the same repository (a project may
    refer to ``../README.md``). It has the repository's history, for backends that take versions and file
    lists from it.

    Raises
    ------
    WheelError
        *folder* is gone, or a file in it can't be read, or its path leads out of the copy.
    """
    root = repository_root(folder)
    copy = into if root is None or root == folder else into / folder.relative_to(root)
    copy.mkdir(parents=True, exist_ok=True)
    files = source_files(folder)
    for path in files:
        _copy_file(folder / path, copy / path, within=into)
    untracked = UntrackedFiles()
    untracked.add(_ignored_files(folder, copy, listed=files))
    commit = ""
    if root is not None:
        untracked.add(_neighbouring_files(root, folder, into))
        commit = _copy_history(root, folder, into)
    return BuildCopy(copy, files, untracked, commit)


def _copy_file(source: Path, destination: Path, *, within: Path) -> None:
    # On a file system that ignores case, a link and a folder of the tree may be the same.
    if not destination.parent.resolve().is_relative_to(within.resolve()):
        raise WheelError(
            f"The source file {source} isn't copied, because its path leads out of the copy.",
            hint="Remove it, or the link on its path.",
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            # Links inside the copy are kept; others are replaced by absolute ones.
            target = os.fspath(source.readlink())
            if not Path(os.path.normpath(destination.parent / target)).is_relative_to(within):
                target = os.fspath(source.resolve())
            _make_link(destination, target, like=source)
        elif stat.S_ISREG(mode):
            shutil.copy2(source, destination)
            destination.chmod(stat.S_IMODE(mode) | stat.S_IWUSR | stat.S_IRUSR)
    except FileNotFoundError:
        return  # tracked, and deleted since
    except OSError as error:
        raise WheelError(
            f"The source file {source} can't be copied: {error.strerror}.",
            hint="Make it readable for yourself, and see that there is room in the temporary folder.",
        ) from error


def _copy_history(root: Path, folder: Path, into: Path) -> str:
    """Make *into* a repository with the objects, references and index of *root*; return its commit.

    Objects are shared, so the time doesn't depend on the size of the history. The user's configuration isn't
    copied, because the URLs of remotes may have credentials.
    """
    facts = _git(root, "rev-parse", "--git-common-dir", "--git-path", "index", "HEAD")
    references = _git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/tags", "refs/heads")
    if facts is None or references is None or len(facts.split("\n")) != 4:
        return ""  # git is missing, or there is no commit yet
    common, index, head, _ = facts.split("\n")
    objects = (root / common / "objects").resolve()
    git = into / ".git"
    if _git(into, "init", "--quiet", "--template=") is None:
        return ""
    (git / "objects" / "info").mkdir(parents=True, exist_ok=True)
    (git / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8")
    (git / "packed-refs").write_text(references, encoding="utf-8")
    (git / "HEAD").write_text(f"{head}\n", encoding="utf-8")
    with contextlib.suppress(OSError):
        shutil.copyfile(root / index, git / "index")
    if folder != root:
        # Other files of the repository are linked or missing, which must not look like an edit.
        inside = folder.relative_to(root).as_posix()
        outside = _git(into, "ls-files", "-z", "--", ".", f":(exclude,literal){inside}")
        _git(into, "update-index", "-z", "--skip-worktree", "--stdin", text=outside)
    return head


def _git(folder: Path, *arguments: str, text: str | None = None) -> str | None:
    """Return the output of git, or ``None`` if it fails or is missing."""
    try:
        done = subprocess.run(
            ["git", *GIT_OPTIONS, *arguments],
            cwd=folder,
            env=git_environment(),
            input=text or "",
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
