"""Building again on every change: of local sources, of what is installed, of settings and templates."""

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
from imagesync.store.layout import TREES
from imagesync.wheels.installed import has_record, installed_files
from imagesync.wheels.source_digests import source_folder
from imagesync.wheels.sources.source_tree import is_cache_or_output
from imagesync.wheels.sources.untracked_inputs import untracked_inputs

if TYPE_CHECKING:
    from watchfiles import Change

    from imagesync.image.image import Image
    from imagesync.plan.plan import PlannedPackage
    from imagesync.scan.environment import Package
    from imagesync.session import Session

SETTINGS_FILES = frozenset({"imagesync.toml", "pyproject.toml"})
# Milliseconds without a further change until a build begins, and the longest wait for that.
_QUIET = 100
_LONGEST = 2000


@dataclass(frozen=True)
class Watched:
    """What a change of calls for a build.

    Parameters
    ----------
    trees
        Folders with all that is below them, caches and build outputs excepted.
    files
        Files by their paths; their folders are watched, since editors put a new file in an old one's place.
    listings
        Folders of which the entries count, and not what is in them: an installation adds or replaces some.
    """

    trees: frozenset[Path] = frozenset()
    files: frozenset[Path] = frozenset()
    listings: frozenset[Path] = frozenset()

    def counts(self, path: str) -> bool:
        """Return whether a change of *path* calls for a build."""
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
    failed: Callable[[ImagesyncError], None],
) -> Iterator[Image]:
    """Build, then build again after each change, and yield each image that isn't the one before; endless.

    Changes during a build are seen, too. An error doesn't end it: the next change may mend what is wrong.

    Parameters
    ----------
    open_session
        Reads the settings anew.
    build
        Makes the image of a session.
    failed
        Gets each error.
    """
    image_id = None
    repacked: frozenset[str] = frozenset()
    watched = _watch_list(open_session, before=_settings_alone())
    while True:
        with _changes(watched) as changes:
            while True:
                _take_all(changes)
                image = None
                try:
                    image = build(open_session())
                except ImagesyncError as error:
                    failed(error)
                if image is not None:
                    repacked = frozenset(str(entry["name"]) for entry in image.repacked)
                # Not the reference alone: what is repacked has no part in it, as nobody knows before what is.
                if image is not None and image.image_id != image_id:
                    image_id = image.image_id
                    yield image
                now = _watch_list(open_session, before=watched, repacked=repacked)
                if now != watched:
                    # Once more, because nobody has looked at what is new here until now.
                    watched = now
                    break
                _wait(changes)


def _watch_list(
    open_session: Callable[[], Session], *, before: Watched, repacked: Collection[str] = ()
) -> Watched:
    """Return what is to be watched now; what was before, where nothing can be said of it."""
    with suppress(ImagesyncError):
        # Silent, because the build says the same.
        session = open_session()
        silent = replace(session, context=replace(session.context, progress=SilentProgress()))
        return watch_list(silent, repacked=repacked)
    return before


def watch_list(session: Session, *, repacked: Collection[str] = ()) -> Watched:
    """Return what the image of *session* depends on, as far as it lies in files that change.

    Parameters
    ----------
    repacked
        The packages of indexes that the image has from their installed files.
    """
    packages = session.plan().packages
    settings = session.context.settings
    sources = [package for package in packages if package.vendored and package.source.kind == "directory"]
    trees = {source_folder(package).resolve() for package in sources}
    if settings.templates is not None:
        trees.add(settings.templates.resolve())
    code = {path.resolve() for path in settings.code}
    trees |= {path for path in code if path.is_dir()}
    return Watched(
        trees=frozenset(tree for tree in trees if tree.is_dir()),
        files=frozenset(
            {
                *_settings_alone().files,
                *(path for path in code if not path.is_dir()),
                *_taken(trees, session.context.store.root / TREES),
                *_installed(package.installed for package in packages if _is_repacked(package, repacked)),
            }
        ),
        listings=frozenset(
            Path(package.installed.location).resolve()
            for package in packages
            if package.installed is not None and package.installed.location
        ),
    )


def _taken(trees: Iterable[Path], cache: Path) -> Iterator[Path]:
    """Yield the files beside source trees that wheels have taken."""
    for tree in trees:
        for path in untracked_inputs(tree, cache=cache):
            yield Path(os.path.normpath(tree / path))


def _is_repacked(package: PlannedPackage, repacked: Collection[str]) -> bool:
    made_here = package.vendored and (package.source.kind != "directory" or has_only_installed_files(package))
    return made_here or package.name in repacked


def _installed(packages: Iterable[Package | None]) -> Iterator[Path]:
    """Yield the installed files that an image has as they are."""
    for package in packages:
        if package is not None and has_record(package):
            folder = Path(package.location).resolve()
            for file in installed_files(package):
                yield Path(os.path.normpath(folder / file.path))


def _settings_alone() -> Watched:
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
    """Yield a queue that gets an entry for each burst of changes from now on, or what ended the watching."""
    bursts: Bursts = queue.SimpleQueue()
    stop = threading.Event()
    flat = {path.parent for path in watched.files} | watched.listings
    followers = [
        _Follower(paths, watched, bursts, stop, recursive=recursive)
        for paths, recursive in ((watched.trees, True), (flat, False))
        if paths
    ]
    for follower in followers:
        follower.start()
    try:
        for follower in followers:
            follower.ready.wait()
        yield bursts
    finally:
        stop.set()
        for follower in followers:
            follower.join()


class _Follower(threading.Thread):
    """Follows folders; ready when no change can escape it."""

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
                watch_filter=self._counts,
                debounce=_LONGEST,
                step=_QUIET,
                stop_event=self._stopping,
                recursive=self._recursive,
                # The first that is yielded says that the folders are being followed.
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

    def _counts(self, _: Change, path: str) -> bool:
        return self._watched.counts(path)


def _take_all(bursts: Bursts) -> None:
    while not bursts.empty():
        _raise(bursts.get_nowait())


def _wait(bursts: Bursts) -> None:
    while True:
        # Not for ever, because Windows hears of Ctrl-C only in between.
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
