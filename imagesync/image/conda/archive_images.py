"""Archives of conda packages as images of the engine, which builds mount: none is sent a second time.

What comes with a context is received, hashed and unpacked for every build, though the engine may have had it
the day before. An image is in the engine until somebody removes it, and can be asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Final

from imagesync.errors import EngineError
from imagesync.image_layout import Label

if TYPE_CHECKING:
    from imagesync.core.progress import Progress, Task
    from imagesync.engine.engine import Engine
    from imagesync.image.conda.layer import CondaLayer
    from imagesync.store.store import StoredFile

ARCHIVES_REPOSITORY: Final = "imagesync-archives"
MOST_IMAGES: Final = 8
"""As many of archives a build mounts, and of bytecode; where more would be needed, all is sent once more."""
_FOLDER: Final = "/mnt/archives"
_KEY_DIGITS: Final = 32
_TAG_DIGITS: Final = 16


@dataclass(frozen=True)
class ArchiveImage:
    """An image of the engine that holds archives, and where a build sees them.

    Parameters
    ----------
    folder
        Where it is mounted.
    keys
        Of the archives in it (:func:`key_of`).
    """

    reference: str
    folder: str
    keys: frozenset[str] = field(repr=False)

    def place(self, file: StoredFile) -> str | None:
        """Return where a build sees a file, or ``None`` where the image doesn't have it."""
        key = key_of(file)
        return f"{self.folder}/{key}/{file.filename}" if key in self.keys else None


def key_of(file: StoredFile) -> str:
    """Return what a file's folder in an image is called: it stands for its content and its name."""
    return hashlib.sha256(f"{file.digest} {file.filename}".encode()).hexdigest()[:_KEY_DIGITS]


def archive_images(engine: Engine, layer: CondaLayer, *, progress: Progress) -> tuple[ArchiveImage, ...]:
    """Return images that have all archives and all bytecode of the layer; what none has is sent as a new one.

    Raises
    ------
    EngineError
        The engine can't be asked, or doesn't take them.
    """
    present = _present(engine)
    chosen: dict[str, frozenset[str]] = {}
    lacking: list[list[StoredFile]] = []
    # Apart, because bytecode is another one for another Python, and an engine takes in two images at once.
    for files in (layer.archives, layer.bytecode):
        found, missing = choose({key_of(file): file for file in files}, present)
        chosen |= found
        if missing:
            lacking.append(missing)
    chosen |= _send(engine, lacking, progress=progress)
    return tuple(
        ArchiveImage(reference, f"{_FOLDER}/{number}", keys)
        for number, (reference, keys) in enumerate(sorted(chosen.items()))
    )


def choose(
    wanted: Mapping[str, StoredFile], images: Mapping[str, frozenset[str]]
) -> tuple[dict[str, frozenset[str]], list[StoredFile]]:
    """Return a few images that have as much as possible of what is wanted, and what none of them has.

    Parameters
    ----------
    wanted
        Files by their keys.
    images
        The keys of what each image has, by its reference.
    """
    left = dict(wanted)
    chosen: dict[str, frozenset[str]] = {}

    def gain(reference: str) -> int:
        return sum(left[key].size for key in images[reference] & left.keys())

    while left and (best := max(sorted(images), key=gain, default=None)) and gain(best):
        chosen[best] = images[best]
        for key in images[best] & left.keys():
            del left[key]
    if len(chosen) > MOST_IMAGES:
        return {}, list(wanted.values())
    return chosen, list(left.values())


def _present(engine: Engine) -> dict[str, frozenset[str]]:
    """Return what each image of archives has, by its reference."""
    from imagesync.engine.lookup import images_of

    return {
        f"{ARCHIVES_REPOSITORY}:{image.tags[0]}": frozenset(image.labels.get(Label.ARCHIVES, "").split())
        for image in images_of(engine.endpoint, ARCHIVES_REPOSITORY)
    }


def _send(
    engine: Engine, groups: Sequence[Sequence[StoredFile]], *, progress: Progress
) -> dict[str, frozenset[str]]:
    """Make an image of each group of files, all at once, and return what each has, by its reference."""
    if not groups:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    size = sum(file.size for files in groups for file in files)
    given_up = Event()
    with (
        progress.task("Sending conda packages", total=size, unit="bytes") as task,
        ThreadPoolExecutor(len(groups), thread_name_prefix="archives") as pool,
    ):
        try:
            return dict(pool.map(lambda files: _make(engine, files, task, given_up), groups))
        except BaseException:
            # The pool waits for what is under way, which may be gigabytes.
            given_up.set()
            raise


def _make(
    engine: Engine, files: Sequence[StoredFile], task: Task, given_up: Event
) -> tuple[str, frozenset[str]]:
    """Make an image of files, and return its reference and what it has."""
    from imagesync.image.context import ContextFile, stream_files

    by_key = {key_of(file): file for file in files}
    keys = " ".join(sorted(by_key))
    reference = f"{ARCHIVES_REPOSITORY}:{hashlib.sha256(keys.encode()).hexdigest()[:_TAG_DIGITS]}"
    content = [
        ContextFile(f"{key}/{file.filename}", file.path, file.size) for key, file in sorted(by_key.items())
    ]
    size = sum(file.size for file in content)
    pieces = _counted(stream_files(content), task, size, given_up)
    engine.import_archive(pieces, reference, labels={Label.ARCHIVES: keys})
    return reference, frozenset(by_key)


def _counted(pieces: Iterable[bytes], task: Task, size: int, given_up: Event) -> Iterator[bytes]:
    """Pass pieces on, and advance the task by what they have of *size*; headers and padding aren't in it."""
    left = size
    for piece in pieces:
        if given_up.is_set():
            raise EngineError("Sending conda packages to the engine was given up.")
        yield piece
        amount = min(len(piece), left)
        task.advance(amount)
        left -= amount
