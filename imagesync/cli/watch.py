"""``imagesync build --watch``: a new image on every change of sources, packages, settings or templates."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from imagesync.core.progress import SilentProgress
from imagesync.errors import ImagesyncError, UsageError
from imagesync.plan.checks.sources import has_only_installed_files
from imagesync.scan.distributions.metadata import installed_files
from imagesync.store.layout import TREES
from imagesync.wheels.sources.source_digests import has_record, source_folder, untracked_inputs
from imagesync.wheels.sources.source_tree import is_cache_or_output

if TYPE_CHECKING:
    from watchfiles import Change

    from imagesync.image.built_image import Image
    from imagesync.plan.plan import PlannedPackage
    from imagesync.scan.environment import Package
    from imagesync.session import Session

SETTINGS_FILES = frozenset({"imagesync.toml", "pyproject.toml"})
# Debouncing, in milliseconds: a build starts after so long without a change, or at the latest after so long.
_QUIET = 100
_LONGEST = 2000


@dataclass(frozen=True)
class Watched:
    """The files and folders whose changes trigger a build.

    Parameters
    ----------
    trees
        Folders and everything below them, except caches and build outputs.
    files
        Single files. Their folders are watched, since editors replace a file by a new one.
    listings
        Folders of which only direct entries are watched: an installation adds or replaces some.
    """

    trees: frozenset[Path] = frozenset()
    files: frozenset[Path] = frozenset()
    listings: frozenset[Path] = frozenset()

    def triggers(self, path: str) -> bool:
        """Return ``True`` if a change of *path* triggers a build."""
        changed = Path(path)
        if changed in self.files:
            return True
        if changed.parent in self.listings:
            return changed.name != "__pycache__"
        inside = (changed.relative_to(tree) for tree in self.trees if changed.is_relative_to(tree))
        return any(not _is_noise(path) for path in inside)


def rebuild_on_change(
    open_session: Callable[[], Session],
    *,
    build: Callable[[Session], Image],
    on_error: Callable[[ImagesyncError], None],
) -> Iterator[Image]:
    """Build now and after each change, for ever, and yield each image that differs from the previous one.

    Changes during a build trigger another one. An error doesn't end the loop: the next change may fix it.

    Parameters
    ----------
    open_session
        Returns a session with the current settings.
    build
        Returns the image of a session.
    on_error
        Called with each error.

    Raises
    ------
    ScanError
        There is no environment to begin with.
    """
    _silent(open_session()).scan()
    image_id = None
    repacked: frozenset[str] = frozenset()
    watched = _watch_list(open_session, previous=_settings_only())
    while True:
        with _changes(watched) as changes:
            while True:
                _drain(changes)
                image = None
                try:
                    image = build(open_session())
                except ImagesyncError as error:
                    on_error(error)
                if image is not None:
                    repacked = frozenset(str(entry["name"]) for entry in image.repacked)
                # Not the reference, which doesn't cover repacked packages: known only after a build.
                if image is not None and image.image_id != image_id:
                    image_id = image.image_id
                    yield image
                now = _watch_list(open_session, previous=watched, repacked=repacked)
                if now != watched:
                    # Build again: changes of newly watched files may have been missed.
                    watched = now
                    break
                _wait(changes)


def _watch_list(
    open_session: Callable[[], Session], *, previous: Watched, repacked: Collection[str] = ()
) -> Watched:
    """Return the files and folders to watch now, or *previous* if the environment can't be planned."""
    with suppress(ImagesyncError):
        return watch_list(_silent(open_session()), repacked=repacked)
    return previous


def _silent(session: Session) -> Session:
    """Return *session* without progress, because a build of it reports the same."""
    return replace(session, context=replace(session.context, progress=SilentProgress()))


def watch_list(session: Session, *, repacked: Collection[str] = ()) -> Watched:
    """Return the files and folders that the image of *session* depends on.

    Parameters
    ----------
    repacked
        Names of the packages that are in the image as repacked installed files.
    """
    packages = session.plan().packages
    settings = session.context.settings
    sources = [package for package in packages if package.vendored and package.source.kind == "directory"]
    trees = {source_folder(package).resolve() for package in sources}
    if settings.templates is not None:
        trees.add(settings.templates.resolve())
    code = {path.resolve() for path in (*settings.code, *settings.files)}
    trees |= {path for path in code if path.is_dir()}
    return Watched(
        trees=frozenset(tree for tree in trees if tree.is_dir()),
        files=frozenset(
            {
                *_settings_only().files,
                *(path for path in code if not path.is_dir()),
                *_untracked_files(trees, session.context.store.root / TREES),
                *_files_of(package.installed for package in packages if _is_repacked(package, repacked)),
            }
        ),
        listings=frozenset(
            Path(package.installed.location).resolve()
            for package in packages
            if package.installed is not None and package.installed.location
        ),
    )


def _untracked_files(trees: Iterable[Path], cache: Path) -> Iterator[Path]:
    """Yield the untracked files that wheels of these source trees contain."""
    for tree in trees:
        for path in untracked_inputs(tree, cache=cache):
            yield Path(os.path.normpath(tree / path))


def _is_repacked(package: PlannedPackage, repacked: Collection[str]) -> bool:
    made_here = package.vendored and (package.source.kind != "directory" or has_only_installed_files(package))
    return made_here or package.name in repacked


def _files_of(packages: Iterable[Package | None]) -> Iterator[Path]:
    """Yield the installed files of *packages*, which an image gets unchanged."""
    for package in packages:
        if package is not None and has_record(package):
            folder = Path(package.location).resolve()
            for file in installed_files(package):
                yield Path(os.path.normpath(folder / file.path))


def _settings_only() -> Watched:
    folders = (Path.cwd(), *Path.cwd().parents)
    repository = next((index for index, folder in enumerate(folders) if (folder / ".git").exists()), 0)
    files = (folder / name for folder in folders[: repository + 1] for name in SETTINGS_FILES)
    return Watched(files=frozenset(files))


def _is_noise(path: PurePath) -> bool:
    inside = PurePosixPath(path.as_posix())
    return any(is_cache_or_output(part) for part in (inside, *inside.parents[:-1]))


Bursts = queue.SimpleQueue[Exception | None]


@contextmanager
def _changes(watched: Watched) -> Iterator[Bursts]:
    """Yield a queue with ``None`` for each burst of changes, or the exception that ended the watching."""
    bursts: Bursts = queue.SimpleQueue()
    stop = threading.Event()
    flat = {path.parent for path in watched.files} | watched.listings
    watchers = [
        _Watcher(paths, watched, bursts, stop, recursive=recursive)
        for paths, recursive in ((watched.trees, True), (flat, False))
        if paths
    ]
    for watcher in watchers:
        watcher.start()
    try:
        for watcher in watchers:
            watcher.ready.wait()
        yield bursts
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


class _Watcher(threading.Thread):
    """A thread that watches folders; ``ready`` is set once no change can be missed."""

    def __init__(
        self,
        folders: Collection[Path],
        watched: Watched,
        bursts: Bursts,
        stop: threading.Event,
        *,
        recursive: bool,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.ready = threading.Event()
        self._folders = sorted(os.fspath(folder) for folder in folders if folder.is_dir())
        self._watched = watched
        self._bursts = bursts
        self._stopping = stop
        self._recursive = recursive

    def run(self) -> None:
        from watchfiles import watch

        try:
            for changes in watch(
                *self._folders,
                watch_filter=self._triggers,
                debounce=_LONGEST,
                step=_QUIET,
                stop_event=self._stopping,
                recursive=self._recursive,
                # The first time-out shows that the folders are being watched.
                rust_timeout=_QUIET,
                yield_on_timeout=True,
            ):
                self.ready.set()
                if changes:
                    self._bursts.put(None)
        except Exception as error:
            # Raised again in the main thread.
            self._bursts.put(error)
        finally:
            self.ready.set()

    def _triggers(self, _: Change, path: str) -> bool:
        return self._watched.triggers(path)


def _drain(bursts: Bursts) -> None:
    while not bursts.empty():
        _raise(bursts.get_nowait())


def _wait(bursts: Bursts) -> None:
    while True:
        # With a time-out, because on Windows Ctrl-C arrives only between waits.
        with suppress(queue.Empty):
            return _raise(bursts.get(timeout=1))


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise UsageError(
            f"The folders can't be watched: {error}",
            hint="If the system's limit is reached, raise it:"
            " `sudo sysctl fs.inotify.max_user_watches=524288`."
            " On a network file system set WATCHFILES_FORCE_POLLING=1.",
        ) from error
