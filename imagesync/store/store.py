"""The content-addressed store in the user's cache folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StoredFile:
    """A file in the store, verified when it was handed out.

    Parameters
    ----------
    filename
        The name that it has outside the store, such as a wheel's.
    path
        Where its bytes are; never changed in place.
    digest
        ``sha256:<hex>``.
    size
        In bytes.
    """

    filename: str
    path: Path
    digest: str
    size: int
