"""Digests of texts, of JSON and of files."""

from __future__ import annotations

import hashlib
import json
import os

from imagesync.core.files import read_chunks


def sha256_of(content: bytes | str) -> str:
    """Return the digest of *content*, ``sha256:<hex>``; of a text in UTF-8.

    >>> sha256_of("")[:20]
    'sha256:e3b0c44298fc1'
    """
    data = content.encode() if isinstance(content, str) else content
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha256_of_json(value: object) -> str:
    """Return the digest of the canonical JSON form of *value*: sorted keys, no spaces, ASCII alone."""
    return sha256_of(json.dumps(value, sort_keys=True, separators=(",", ":")))


def file_hexdigest(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """Return the digest of a file in hexadecimal.

    Raises
    ------
    OSError
        It can't be read.
    """
    found = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:  # noqa: PTH123  some callers have thousands of small files
        for chunk in read_chunks(file):
            found.update(chunk)
    return found.hexdigest()
