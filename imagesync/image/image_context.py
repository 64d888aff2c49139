"""The build context of an environment, as a value and as a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.strict_json import load_json
from imagesync.core.text import first_of
from imagesync.engine.build_context import file_content
from imagesync.errors import RenderError
from imagesync.image_layout import ImageOptions

if TYPE_CHECKING:
    from imagesync.engine.build_context import ContextFile
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock

_MARKER = ".imagesync.json"


@dataclass(frozen=True)
class BuildContext:
    """The files, labels and name of an image to build, and its base image.

    Parameters
    ----------
    files
        Sorted by path, except that the Dockerfile comes first.
    base
        The image that the Dockerfile starts from.
    lock
        What the image holds.
    environment_hash
        ``sha256:<hex>``.
    labels
        The image's labels, which the Dockerfile sets.
    name
        The reference of the image, ``<repository>:<tag>``.
    options
        What the user's settings say of the image besides its packages.
    """

    files: tuple[ContextFile, ...]
    base: BaseImage
    lock: Lock
    environment_hash: str
    labels: Mapping[str, str]
    name: str
    options: ImageOptions = field(default_factory=ImageOptions)

    @cached_property
    def dockerfile(self) -> str:
        """Return the Dockerfile's text."""
        content = self.files[0].content
        assert isinstance(content, bytes)  # noqa: S101  make_context puts the rendered Dockerfile first
        return content.decode()

    @property
    def size(self) -> int:
        """Return the size of all files in bytes."""
        return sum(file.size for file in self.files)


def write_context(context: BuildContext, folder: Path) -> None:
    """Write the context to *folder*, completely or not at all.

    An earlier context there is replaced, unless files were added or changed.

    Raises
    ------
    RenderError
        The folder holds other files, or can't be written.
    """
    folder = folder.absolute()
    _refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            for file in context.files:
                _write(file, new)
            (new / _MARKER).write_text(json.dumps(_marker(context), indent=1, sort_keys=True) + "\n")
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
    except OSError as error:
        raise RenderError(
            f"can't write the build context to {folder}: {error.strerror or error}",
            hint="Name a folder in a place that has room and that you can write to.",
        ) from error


def _write(file: ContextFile, folder: Path) -> None:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.sha256:
        with target.open("wb") as copy:
            copy.writelines(file_content(file))
    elif isinstance(file.content, bytes):
        target.write_bytes(file.content)
    else:
        shutil.copyfile(file.content, target)
    target.chmod(file.mode)


def _marker(context: BuildContext) -> dict[str, Any]:
    """Return the record by which a later run recognises an unchanged context.

    Only texts that are made here get a digest: others are rarely edited.
    """
    digests = {
        file.path: hashlib.sha256(file.content).hexdigest() if isinstance(file.content, bytes) else None
        for file in context.files
    }
    return {"environment_hash": context.environment_hash, "files": digests}


def _refuse_foreign(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RenderError(f"{folder} is there already, and is no folder", hint="Name another folder.")
    if not folder.exists():
        return
    try:
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        foreign = sorted(present - {_MARKER} - set(_unchanged(folder)))
    except OSError as error:
        raise RenderError(f"can't read the folder {folder}: {error.strerror}") from error
    if foreign:
        raise RenderError(
            f"{folder} holds files that imagesync did not write: {first_of(foreign, 3)}",
            hint="Name a new folder, or move them away. What should differ in every rendering belongs in a"
            " template of your own (docs/templates.md).",
        )


def _unchanged(folder: Path) -> Iterator[str]:
    """Yield the unchanged files of an earlier context."""
    try:
        files = load_json((folder / _MARKER).read_bytes())["files"].items()
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return
    for path, digest in files:
        file = folder / path
        if digest is None or (file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest):
            yield path
