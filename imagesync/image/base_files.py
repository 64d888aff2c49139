"""The libraries and programs of a base image: listed by one run of it, and remembered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import BaseImageError
from imagesync.plan.checks.system_libraries import SystemFiles
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.image_layout import BaseImage

_FORMAT: Final = 1


def base_system_files(engine: Engine, base: BaseImage, *, cache: Path) -> SystemFiles:
    """Return the libraries and programs of *base*; the engine is asked once for each base image.

    Raises
    ------
    EngineError
        The image doesn't run.
    """
    known = _recall(cache, base.base_hash)
    if known is None:
        from imagesync.engine.run_container import RunRequest
        from imagesync.standalone.programs import program_text

        command = (base.python_executable, "-c", program_text("image.system_files"))
        result = engine.run(RunRequest(base.reference, command, timeout=120))
        if result.exit_code != 0:
            message = result.stderr.decode(errors="replace").strip()[-2000:]
            raise BaseImageError(f"The libraries of the base image {base.root} can't be listed: {message}")
        known = json.loads(result.stdout)
        write_cache(_path(cache, base.base_hash), known, key=_FORMAT)
    named = _path(cache, base.root, *base.apt)
    if read_cache(named, key=_FORMAT) != base.base_hash:
        write_cache(named, base.base_hash, key=_FORMAT)
    return SystemFiles.from_dict(known)


def remembered_system_files(root: str, apt: Sequence[str], *, cache: Path) -> SystemFiles | None:
    """Return the cached libraries and programs of the base image of *root* with the packages *apt*.

    ``None`` if it never was.
    """
    base_hash = read_cache(_path(cache, root, *sorted(set(apt))), key=_FORMAT)
    known = None if base_hash is None else _recall(cache, base_hash)
    return None if known is None else SystemFiles.from_dict(known)


def _recall(cache: Path, base_hash: str) -> Mapping[str, list[str]] | None:
    found: Mapping[str, list[str]] | None = read_cache(_path(cache, base_hash), key=_FORMAT)
    return found


def _path(cache: Path, *name: str) -> Path:
    return cache_path(cache / ANSWERS, "system-files", *name)
