"""What a wheel has taken from outside its source tree: files that git ignores, or that lie beside it.

No list of sources names them. The wheel does: what of them ever went into one counts from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.wheels.sources.stat_cache import file_digests

_FORMAT = 2


def taken_files(folder: Path, *, cache: Path | None) -> tuple[str, ...]:
    """Return the files, relative to *folder* with ``/``, that its wheels took beside the source tree.

    Parameters
    ----------
    cache
        The folder that keeps what is known of source trees; ``None`` for no such memory.
    """
    known = None if cache is None else read_cache(_cache_path(folder, cache), key=_FORMAT)
    return tuple(known or ())


def with_taken(folder: Path, digest: str, *, cache: Path | None) -> str:
    """Return the digest of the source tree at *folder*, *digest*, with the files that its wheels took.

    Raises
    ------
    WheelError
        A file can't be read.
    """
    paths = taken_files(folder, cache=cache)
    return _joined(digest, file_digests(folder, paths, scope="taken", cache=cache) if paths else {})


def remember_taken(
    folder: Path,
    wheel: Path,
    candidates: Mapping[str, int],
    *,
    digest: str,
    listed: Collection[str],
    cache: Path,
) -> str:
    """Remember which of *candidates* the new *wheel* of the source tree at *folder* has, as they are now.

    Parameters
    ----------
    candidates
        The size of each file that isn't of the source tree and that the build could read, by absolute path.
    digest, listed
        The digest and the files of the source tree.
    cache
        The folder that keeps what is known of source trees.

    Returns
    -------
    str
        What :func:`with_taken` gives for it from now on.
    """
    relative = {os.path.relpath(path, folder).replace(os.sep, "/"): path for path in candidates}
    sizes = {path: candidates[absolute] for path, absolute in relative.items()}
    taken = dict(_matches(wheel, folder, sizes, listed))
    # What one wheel took counts even where this one didn't: a generated file may come again.
    before = taken_files(folder, cache=cache)
    if not set(taken) <= set(before):
        write_cache(_cache_path(folder, cache), sorted({*taken, *before}), key=_FORMAT)
    others = [path for path in before if path not in taken]
    return _joined(digest, {**file_digests(folder, others, scope="", cache=None), **taken})


def _joined(digest: str, taken: Mapping[str, str]) -> str:
    if not taken:
        return digest
    canonical = json.dumps([digest, sorted(taken.items())], separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _matches(
    wheel: Path, folder: Path, sizes: Mapping[str, int], listed: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield path and sha256 of the files with the content of a member that no listed file gives."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        members = [info for info in archive.infolist() if ".dist-info/" not in info.filename]
        wanted = {info.file_size for info in members} & set(sizes.values())
        names: dict[str, list[str]] = {}
        for info in members:
            if info.file_size in wanted and not info.is_dir():
                content = hashlib.sha256(archive.read(info)).hexdigest()
                names.setdefault(content, []).append(info.filename)
    for path, size in sizes.items():
        if size not in wanted:
            continue
        try:
            sha256 = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        except OSError:
            continue
        places = names.get(sha256, [])
        # It may have another name in the wheel (hatchling's force-include), unless a source has that one.
        if _ends(path, places) or (size and not all(_given(place, listed) for place in places)):
            yield path, sha256


def _ends(path: str, places: Collection[str]) -> bool:
    return any(f"/{path}".endswith(f"/{place}") for place in places)


def _given(place: str, listed: Collection[str]) -> bool:
    return any(_ends(path, (place,)) for path in listed)


def _cache_path(folder: Path, cache: Path) -> Path:
    return cache_path(cache, str(folder.absolute()), "untracked inputs")
