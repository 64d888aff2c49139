"""Untracked inputs: files in a wheel that git ignores, or that lie beside the source tree.

No list of sources has them, but the wheel does. A file that once was in a wheel counts from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.stat_cache import file_digests

_FORMAT = 2


def untracked_inputs(folder: Path, *, cache: Path | None) -> tuple[str, ...]:
    """Return the untracked inputs of the wheels of *folder*, relative to it, with ``/``."""
    known = None if cache is None else read_cache(_cache_path(folder, cache), key=_FORMAT)
    return tuple(known or ())


def with_untracked_inputs(folder: Path, digest: str, *, cache: Path | None) -> str:
    """Return *digest*, of the source tree *folder*, combined with the untracked inputs of its wheels.

    Raises
    ------
    WheelError
        A file can't be read.
    """
    paths = untracked_inputs(folder, cache=cache)
    return _joined(digest, file_digests(folder, paths, scope="untracked", cache=cache) if paths else {})


def record_untracked_inputs(
    folder: Path,
    wheel: Path,
    candidates: Mapping[str, int],
    *,
    digest: str,
    listed: Collection[str],
    cache: Path,
) -> str:
    """Record which *candidates* are in the new *wheel* of the source tree *folder*.

    *candidates* has the size of each untracked file that the build could read, by absolute path. *digest* and
    *listed* are those of the source tree.

    Returns
    -------
    str
        The digest that :func:`with_untracked_inputs` returns from now on.
    """
    relative = {os.path.relpath(path, folder).replace(os.sep, "/"): path for path in candidates}
    sizes = {path: candidates[absolute] for path, absolute in relative.items()}
    used = dict(_matches(wheel, folder, sizes, listed))
    # Inputs of earlier wheels still count: a generated file may reappear.
    before = untracked_inputs(folder, cache=cache)
    if not set(used) <= set(before):
        write_cache(_cache_path(folder, cache), sorted({*used, *before}), key=_FORMAT)
    others = [path for path in before if path not in used]
    return _joined(digest, {**file_digests(folder, others, scope="", cache=None), **used})


def _joined(digest: str, inputs: Mapping[str, str]) -> str:
    if not inputs:
        return digest
    canonical = json.dumps([digest, sorted(inputs.items())], separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _matches(
    wheel: Path, folder: Path, sizes: Mapping[str, int], listed: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield path and sha256 of the files with the content of a member that is no listed file."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        members = [info for info in archive.infolist() if ".dist-info/" not in info.filename]
        common_sizes = {info.file_size for info in members} & set(sizes.values())
        names: dict[str, list[str]] = {}
        for info in members:
            if info.file_size in common_sizes and not info.is_dir():
                content = hashlib.sha256(archive.read(info)).hexdigest()
                names.setdefault(content, []).append(info.filename)
    for path, size in sizes.items():
        if size not in common_sizes:
            continue
        try:
            sha256 = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        except OSError:
            continue
        found = names.get(sha256, [])
        # The name in the wheel may differ (hatchling's force-include), unless a source file has that name.
        if _ends(path, found) or (size and not all(_is_listed(name, listed) for name in found)):
            yield path, sha256


def _ends(path: str, names: Collection[str]) -> bool:
    return any(f"/{path}".endswith(f"/{name}") for name in names)


def _is_listed(name: str, listed: Collection[str]) -> bool:
    return any(_ends(path, (name,)) for path in listed)


def _cache_path(folder: Path, cache: Path) -> Path:
    return cache_path(cache, str(folder.absolute()), "untracked inputs")
