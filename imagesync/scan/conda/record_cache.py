# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH116, PTH119, PTH120
"""conda's records, of which those that haven't changed since the last scan aren't read again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.scan.conda.prefix_records import RecordFile, read_record_file
from imagesync.scan.distributions.folder import reason
from imagesync.scan.environment import CondaRecord, Finding, Severity

_FORMAT = 2
# Less than this is read as quickly as a cache.
_WORTH_IT = 2_000_000
# A file that changes again within one tick of its file system's clock keeps its times; FAT's is 2 s.
_TICK = 2_000_000_000
_FIELDS = tuple(field.name for field in fields(CondaRecord))
_KEY = [_FORMAT, *_FIELDS]
_LISTS = frozenset({"depends", "constrains", "distributions"})

Stat = list[int]


def read_record_files(
    paths: Sequence[str], findings: list[Finding], cache: Callable[[], Path] | None = None
) -> list[RecordFile]:
    """Return what the records at *paths*, all of one folder, say.

    Parameters
    ----------
    findings
        Gets what can't be read.
    cache
        Gives the folder that keeps what is known of unchanged records; ``None`` for none.
    """
    began = time.time_ns()
    stats = {path: _stat(path) for path in paths}
    cached = None
    if cache is not None and paths and sum(value[0] for value in stats.values()) > _WORTH_IT:
        prefix = os.path.dirname(os.path.dirname(os.path.abspath(paths[0])))
        cached = cache_path(cache(), prefix)
    known = {} if cached is None else read_cache(cached, key=_KEY) or {}
    found, fresh = [], False
    for path in paths:
        restored = _restored(path, stats[path], known.get(os.path.basename(path)))
        if restored is not None:
            found.append(restored)
            continue
        try:
            found.append(read_record_file(path))
            fresh = True
        except (OSError, ValueError, RecursionError) as error:
            findings.append(_unreadable(path, error))
    if cached is not None and (fresh or len(known) > len(found)):
        _save(cached, found, stats, settled_before=began - _TICK)
    return found


def _stat(path: str) -> Stat:
    try:
        status = os.stat(path)
    except OSError:
        return [0, 0, 0, 0]
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _restored(path: str, stat: Stat, entry: list[Any] | None) -> RecordFile | None:
    """Return what is known of a record that hasn't changed."""
    try:
        if entry is None or entry[0] != stat:
            return None
        known: dict[str, Any] = {
            name: tuple(value) if name in _LISTS else value
            for name, value in zip(_FIELDS, entry[1], strict=True)
        }
        return RecordFile(path, CondaRecord(**known), tuple(entry[2]), tuple(entry[3]))
    except (LookupError, TypeError, ValueError):
        return None


def _save(
    cached: Path, found: Sequence[RecordFile], stats: Mapping[str, Stat], *, settled_before: int
) -> None:
    records = {
        os.path.basename(each.path): (
            stats[each.path],
            [getattr(each.record, name) for name in _FIELDS],
            each.metadata,
            each.witnesses,
        )
        for each in found
        if max(stats[each.path][1:3]) < settled_before
    }
    write_cache(cached, records, key=_KEY)


def _unreadable(path: str, error: Exception) -> Finding:
    return Finding(
        Severity.WARNING,
        "conda-record-unreadable",
        f"{path} can't be used, so its package isn't known as conda's: {reason(error)}",
        path=path,
        hint="Install the package again: conda install --force-reinstall NAME",
    )
