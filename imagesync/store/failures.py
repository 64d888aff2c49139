"""What a file system refuses, as the error that says what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesync.errors import StoreError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def storing(root: Path) -> Iterator[None]:
    """Turn an ``OSError`` of what is done in *root* into a :class:`~imagesync.errors.StoreError`."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(
                f"No space is left for the artifact store in {root}.",
                hint="Make room with `imagesync cache prune`, "
                "or set IMAGESYNC_CACHE_DIR to a folder with more room.",
            ) from error
        raise StoreError(
            f"The artifact store in {root} can't be used: {error.strerror or error}"
            + (f" ({error.filename})" if error.filename else ""),
            hint="Set IMAGESYNC_CACHE_DIR to a folder that you can write to.",
        ) from error
