"""Where an artifact lies in the store."""

from __future__ import annotations

import re
from pathlib import Path

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def blob_path(root: Path, digest: str) -> Path:
    """Return where in *root* the file of *digest* (``sha256:<hex>``) is or would be.

    Raises
    ------
    ValueError
        *digest* isn't one: what comes from an index never becomes another path.
    """
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError(f"not a sha256 digest: {digest!r}")
    hexdigest = digest.removeprefix("sha256:")
    return root / "blobs" / "sha256" / hexdigest[:2] / hexdigest
