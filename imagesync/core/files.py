"""Reading and writing files: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from imagesync.errors import UsageError

_HINT = "Name a file in a folder that you can write to."


def read_bytes(path: str) -> bytes:
    """Return a file's content; faster than ``open`` for the many small files of an environment."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  a Path costs more than reading a small file
        return file.readall()


def write_text(path: Path, text: str) -> None:
    """Write *text* as UTF-8 to *path*; whoever reads it sees the old content or the new, never a part.

    Raises
    ------
    UsageError
        The folder isn't there, or can't be written to.
    """
    _write(path, lambda file: file.write(text.encode()))


def copy_file(source: Path, path: Path) -> None:
    """Copy the file *source* to *path*, whose folder is made where it is missing; see :func:`write_text`."""

    def copy(file: BinaryIO) -> None:
        with source.open("rb") as content:
            shutil.copyfileobj(content, file)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't make the folder {path.parent}: {error.strerror}", hint=_HINT) from error
    _write(path, copy)


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        # mkstemp makes files private; a file that a user asked for gets the user's own default mode.
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise UsageError(f"can't write {path}: {error.strerror}", hint=_HINT) from error


def _umask() -> int:
    # The system tells the mask only while setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
