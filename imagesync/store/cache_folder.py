"""Where the store is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def default_root(environ: Mapping[str, str] | None = None, *, platform: str = sys.platform) -> Path:
    """Return the store's folder: ``IMAGESYNC_CACHE_DIR``, else the user's cache folder."""
    environ = os.environ if environ is None else environ
    chosen = environ.get("IMAGESYNC_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    if platform == "linux":
        # As platformdirs has it, whose import is a tenth of what a hit adds to a scan (XDG Base Directory
        # Specification: a relative path doesn't count).
        base = Path(environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "imagesync"
    from platformdirs import user_cache_path

    return user_cache_path("imagesync")
