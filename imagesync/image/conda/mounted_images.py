"""Images of the engine that builds mount: archives of conda packages, their bytecode, and py-rattler.

An engine receives, hashes and unpacks a context anew for every build. An image is sent once, and stays in the
engine until it is removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Final

from imagesync.core.platforms import DEFAULT_PLATFORM
from imagesync.engine.build_context import BuildRequest, ContextFile, stream_files
from imagesync.engine.lookup import images_of
from imagesync.errors import EngineError
from imagesync.image.conda.layer import ArchiveImage, archive_key
from imagesync.image_layout import Label

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.core.progress import Progress, Task
    from imagesync.engine.engine import Engine
    from imagesync.image.conda.conda_installer import CondaInstaller
    from imagesync.image.conda.layer import CondaLayer
    from imagesync.store.store import StoredFile

ARCHIVES_REPOSITORY: Final = "imagesync-archives"
INSTALLER_REPOSITORY: Final = "imagesync-installer"
MOST_IMAGES: Final = 8
"""The most images of archives, and of bytecode, that a build mounts; if it takes more, all is sent again."""
_FOLDER: Final = "/mnt/archives"
_TAG_DIGITS: Final = 16
_INSTALLER_DOCKERFILE: Final = """\
FROM scratch
COPY rattler /rattler
LABEL org.opencontainers.image.title="py-rattler, which installs conda packages while images are built"
"""


def with_mounted_images(
    engine: Engine, layer: CondaLayer, *, platform: Platform, progress: Progress
) -> CondaLayer:
    """Return the layer with images of py-rattler, the archives and their bytecode, which are made if missing.

    With Podman, where mounted images are untested, the layer is returned as it is. An engine that refuses
    archives, as behind a proxy that permits little more than builds, gets them with each context.

    Raises
    ------
    BuildError
        The engine can't make the image of py-rattler.
    """
    if engine.info().name == "Podman":
        return layer
    layer = replace(
        layer, installer=_with_installer_image(engine, layer.installer, platform=platform, progress=progress)
    )
    try:
        return replace(layer, images=archive_images(engine, layer, platform=platform, progress=progress))
    except EngineError as error:
        progress.line(f"Conda packages are sent with the build, and each time. {error.message}")
        return layer


def _with_installer_image(
    engine: Engine, installer: CondaInstaller, *, platform: Platform, progress: Progress
) -> CondaInstaller:
    """Return the installer with an image of py-rattler, 80 MB; micromamba is small, and sent each time."""
    if not installer.rattler:
        return installer
    reference = f"{INSTALLER_REPOSITORY}:{_installer_tag(installer)}"
    if engine.inspect(reference) is None:
        progress.line(f"Making {reference}, which installs conda packages in builds, once")
        files = [ContextFile.from_file(f"rattler/{name}", path) for name, path in installer.rattler]
        request = BuildRequest(network="none", platform=platform.name)
        image_id = engine.build_dockerfile(_INSTALLER_DOCKERFILE, request, progress=progress, files=files)
        engine.tag(image_id, reference)
    return replace(installer, image=reference)


def _installer_tag(installer: CondaInstaller) -> str:
    """Return a tag for version and file sizes of py-rattler; reading its files would take too long."""
    from importlib.metadata import version

    sizes = [(name, path.stat().st_size) for name, path in installer.rattler]
    inputs = json.dumps([_INSTALLER_DOCKERFILE, version("py-rattler"), sizes])
    return hashlib.sha256(inputs.encode()).hexdigest()[:_TAG_DIGITS]


def archive_images(
    engine: Engine, layer: CondaLayer, *, platform: Platform, progress: Progress
) -> tuple[ArchiveImage, ...]:
    """Return images that have all archives and all bytecode of the layer; missing files become new ones.

    Raises
    ------
    EngineError
        The engine doesn't answer, or refuses them.
    """
    present = _present(engine, platform)
    chosen: dict[str, frozenset[str]] = {}
    to_send: list[list[StoredFile]] = []
    # Separately, because bytecode differs between versions of Python, and an engine imports two at once.
    for files in (layer.archives, layer.bytecode):
        found, missing = choose({archive_key(file): file for file in files}, present)
        chosen |= found
        if missing:
            to_send.append(missing)
    chosen |= _send(engine, to_send, platform=platform, progress=progress)
    return tuple(
        ArchiveImage(reference, f"{_FOLDER}/{number}", keys)
        for number, (reference, keys) in enumerate(sorted(chosen.items()))
    )


def choose(
    wanted: Mapping[str, StoredFile], images: Mapping[str, frozenset[str]]
) -> tuple[dict[str, frozenset[str]], list[StoredFile]]:
    """Return a few images that have as many of the wanted files as possible, and the files that none has.

    Parameters
    ----------
    wanted
        Files by their keys.
    images
        The keys of each image's files, by its reference.
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


def _present(engine: Engine, platform: Platform) -> dict[str, frozenset[str]]:
    """Return the keys of each image's files, by its reference; a build mounts images of its platform only."""
    return {
        f"{ARCHIVES_REPOSITORY}:{image.tags[0]}": frozenset(keys.split())
        for image in images_of(engine.endpoint, ARCHIVES_REPOSITORY)
        if image.tags[0] == _archives_tag(keys := image.labels.get(Label.ARCHIVES, ""), platform)
    }


def _archives_tag(keys: str, platform: Platform) -> str:
    """Return a tag for an image of files by their keys, which has the files of another platform's image."""
    inputs = keys if platform == DEFAULT_PLATFORM else f"{platform} {keys}"
    return hashlib.sha256(inputs.encode()).hexdigest()[:_TAG_DIGITS]


def _send(
    engine: Engine, groups: Sequence[Sequence[StoredFile]], *, platform: Platform, progress: Progress
) -> dict[str, frozenset[str]]:
    """Make an image of each group of files, concurrently, and return the keys of each, by its reference."""
    if not groups:
        return {}
    from imagesync.core.worker_pool import WorkerPool

    size = sum(file.size for files in groups for file in files)
    cancelled = Event()
    with (
        progress.task("Sending conda packages", total=size, unit="bytes") as task,
        WorkerPool(len(groups), thread_name_prefix="archives") as pool,
    ):
        try:
            return dict(pool.map(lambda files: _make(engine, files, platform, task, cancelled), groups))
        except BaseException:
            # The pool waits for transfers under way, which may be gigabytes.
            cancelled.set()
            raise


def _make(
    engine: Engine, files: Sequence[StoredFile], platform: Platform, task: Task, cancelled: Event
) -> tuple[str, frozenset[str]]:
    """Make an image of files, and return its reference and its keys."""
    by_key = {archive_key(file): file for file in files}
    keys = " ".join(sorted(by_key))
    reference = f"{ARCHIVES_REPOSITORY}:{_archives_tag(keys, platform)}"
    content = [
        ContextFile(f"{key}/{file.filename}", file.path, file.size) for key, file in sorted(by_key.items())
    ]
    size = sum(file.size for file in content)
    pieces = _counted(stream_files(content), task, size, cancelled)
    engine.import_archive(pieces, reference, labels={Label.ARCHIVES: keys}, platform=platform.name)
    image = engine.inspect(reference)
    if image is not None and not platform.is_platform_of(image.platform):
        # Docker 20.10 gives what it imports its own architecture, and a build would pull the image.
        engine.remove(reference)
        raise EngineError(f"The engine imports no image for {platform}.")
    return reference, frozenset(by_key)


def _counted(pieces: Iterable[bytes], task: Task, size: int, cancelled: Event) -> Iterator[bytes]:
    """Yield the pieces, and advance the task by *size* in all: headers and padding don't count."""
    left = size
    for piece in pieces:
        if cancelled.is_set():
            raise EngineError("Sending conda packages to the engine was given up.")
        yield piece
        amount = min(len(piece), left)
        task.advance(amount)
        left -= amount
