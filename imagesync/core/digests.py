"""Digests of content that is in memory, as ``sha256:<hex>``."""

from __future__ import annotations

import hashlib
import json


def sha256_of(content: bytes | str) -> str:
    """Return the digest of *content*; of a text in UTF-8.

    >>> sha256_of("")[:20]
    'sha256:e3b0c44298fc1'
    """
    data = content.encode() if isinstance(content, str) else content
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha256_of_json(value: object) -> str:
    """Return the digest of the canonical JSON form of *value*: sorted keys, no spaces, ASCII alone."""
    return sha256_of(json.dumps(value, sort_keys=True, separators=(",", ":")))
