"""Where the store is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def default_root(environ: Mapping[str, str] | None = None) -> Path:
    """Return the store's folder: ``IMAGESYNC_CACHE_DIR``, else the user's cache folder."""
    chosen = (os.environ if environ is None else environ).get("IMAGESYNC_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("imagesync")
