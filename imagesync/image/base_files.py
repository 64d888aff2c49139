"""The libraries and programs of a base image: listed by one run of it, and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.strict_json import load_json
from imagesync.errors import BaseImageError
from imagesync.image.base import base_identity
from imagesync.plan.checks.system_libraries import SystemFiles
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.image_layout import BaseImage
    from imagesync.plan.plan import Plan
    from imagesync.settings.model import Settings

BaseStage = Literal["minimal", "runtime"]
_FORMAT: Final = 2
# What standalone/image/system_files.py does, for an image without Python: libraries, an empty line, programs.
_LISTING: Final = """
folders_of() {
    [ -r "$1" ] || return 0
    while read -r word rest || [ -n "$word" ]; do
        case $word in
            ''|'#'*) ;;
            include) for file in $rest; do folders_of "$file"; done ;;
            *) echo "$word" ;;
        esac
    done <"$1"
}
cd /etc
for folder in $(folders_of /etc/ld.so.conf) /lib /usr/lib /lib64 /usr/lib64; do
    ls -1 "$folder" 2>/dev/null
done
IFS=:
for folder in ${LD_LIBRARY_PATH:-}; do ls -1 "$folder" 2>/dev/null; done
echo
for folder in $PATH; do ls -1 "$folder" 2>/dev/null; done
exit 0
"""


def base_system_files(
    engine: Engine, base: BaseImage, *, settings: Settings, stage: BaseStage, cache: Path
) -> SystemFiles:
    """Return the libraries and programs of *base*; the engine is asked once for each base image.

    Parameters
    ----------
    engine
        Has the base image.
    base
        The base image.
    settings
        Those that *base* was made by.
    stage
        The stage of the base image that is meant.
    cache
        The folder of all caches.

    Raises
    ------
    EngineError
        The image doesn't run.
    """
    known = _recall(cache, base.base_hash, stage)
    if known is None:
        from imagesync.engine.run_container import RunRequest
        from imagesync.standalone.programs import program_text

        program = program_text("image.system_files")
        request = (
            RunRequest(base.minimal, ("/bin/sh", "-c", _LISTING), timeout=120)
            if stage == "minimal"
            else RunRequest(base.reference, (base.python_executable, "-c", program), timeout=120)
        )
        result = engine.run(request)
        if result.exit_code != 0:
            message = result.stderr.decode(errors="replace").strip()[-2000:]
            raise BaseImageError(f"The libraries of the base image {base.root} can't be listed: {message}")
        known = _parse_listing(result.stdout) if stage == "minimal" else load_json(result.stdout)
    return remember_system_files(known, base, settings=settings, stage=stage, cache=cache)


def remember_system_files(
    listed: Mapping[str, list[str]], base: BaseImage, *, settings: Settings, stage: BaseStage, cache: Path
) -> SystemFiles:
    """Remember the libraries and programs of *base* for commands that don't look into it, and return them.

    Parameters
    ----------
    listed
        As ``standalone/image/system_files.py`` lists them.
    base, settings, stage, cache
        As for :func:`base_system_files`.
    """
    if _recall(cache, base.base_hash, stage) != listed:
        write_cache(_path(cache, base.base_hash, stage), listed, key=_FORMAT)
    named = _path(cache, base_identity(settings.base, settings), stage)
    if read_cache(named, key=_FORMAT) != base.base_hash:
        write_cache(named, base.base_hash, key=_FORMAT)
    return SystemFiles.from_dict(listed)


def remembered_system_files(settings: Settings, *, stage: BaseStage, cache: Path) -> SystemFiles | None:
    """Return the cached libraries and programs of the base image that *settings* describe.

    ``None`` if it never was listed.
    """
    base_hash = read_cache(_path(cache, base_identity(settings.base, settings), stage), key=_FORMAT)
    known = None if base_hash is None else _recall(cache, base_hash, stage)
    return None if known is None else SystemFiles.from_dict(known)


def stage_of(plan: Plan, settings: Settings) -> BaseStage:
    """Return the stage of the base image that the environment of *plan* is built on."""
    # With a compiler, one image is all stages.
    return "minimal" if plan.interpreter == "conda" and not settings.toolchain else "runtime"


def _parse_listing(output: bytes) -> dict[str, list[str]]:
    libraries, _, programs = output.decode(errors="surrogateescape").partition("\n\n")
    names = {name for name in libraries.splitlines() if ".so" in name}
    return {"libraries": sorted(names), "programs": sorted(set(programs.splitlines()) - {""})}


def _recall(cache: Path, base_hash: str, stage: BaseStage) -> Mapping[str, list[str]] | None:
    found: Mapping[str, list[str]] | None = read_cache(_path(cache, base_hash, stage), key=_FORMAT)
    return found


def _path(cache: Path, *name: str) -> Path:
    return cache_path(cache / ANSWERS, "system-files", *name)
