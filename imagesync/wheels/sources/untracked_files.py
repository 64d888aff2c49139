"""Files of a copied source tree that git ignores, or that lie beside the project in its repository.

A build may read and write them without changing the user's own files: folders are created anew, and files are
copied within a limit. Beyond the limit files are linked one by one: additions, replacements and removals
stay in the copy, and only writing into a file in place would change the user's file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from imagesync.wheels.sources.source_tree import is_cache_or_output, is_environment, is_skipped

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


def ignored_files(folder: Path, copy: Path, *, listed: Iterable[str]) -> list[Content]:
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


def neighbouring_files(root: Path, folder: Path, into: Path) -> list[Content]:
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
        Path(copy).symlink_to(source)


def _copy_link(source: str, copy: str) -> None:
    """Create a link to the target of the link *source*, or to the copy of the target."""
    with contextlib.suppress(OSError):
        target = Path(source).readlink()
        is_outside = target.is_absolute() or not (Path(copy).parent / target).exists()
        Path(copy).symlink_to(Path(source).resolve() if is_outside else target)
