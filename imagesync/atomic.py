"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from imagesync.errors import UsageError


def write_text(path: Path, text: str) -> None:
    """Write *text* as UTF-8 to *path*; whoever reads it sees the old content or the new, never a part.

    Raises
    ------
    UsageError
        The folder isn't there, or can't be written to.
    """
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        # mkstemp makes files private; a file that a user asked for gets the user's own default mode.
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise UsageError(
            f"can't write {path}: {error.strerror}", hint="Name a file in a folder that you can write to."
        ) from error


def _umask() -> int:
    # The system tells the mask only while setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
