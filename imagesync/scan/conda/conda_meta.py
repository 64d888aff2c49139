# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH116, PTH118, PTH119, PTH120
"""conda's files about an environment: prefix records, history, pins, and the configured channels."""

from __future__ import annotations

import ast
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.credentials import strip_credentials, strip_credentials_in
from imagesync.core.files import read_bytes
from imagesync.core.progress import Progress, SilentProgress, slow_task
from imagesync.errors import ScanError
from imagesync.indexes.conda.conda_configuration import CondaConfiguration, read_conda_configuration
from imagesync.scan.conda.prefix_records import RecordFile, read_record_file, record_paths
from imagesync.scan.distributions.folder import reason
from imagesync.scan.environment import CondaRecord, Finding, Severity

_COMMENT = re.compile(r"#\s*(?P<action>\w+)\s+specs:\s*(?P<specs>.+)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ADDING = frozenset({"update", "install", "create", "neutered"})
_FORMAT = 2
# Smaller records are read as quickly as a cache.
_WORTH_IT = 2_000_000
# A file that changes again within one tick of its file system's clock keeps its times; a tick of FAT is 2 s.
_TICK = 2_000_000_000
_FIELDS = tuple(field.name for field in fields(CondaRecord))
_KEY = [_FORMAT, *_FIELDS]
_LISTS = frozenset({"depends", "constrains", "distributions"})
Stat = list[int]


@dataclass(frozen=True)
class CondaFacts:
    """The content of conda's files about one environment.

    Parameters
    ----------
    prefix
        The conda environment; empty if there is none.
    records
        The prefix records.
    configuration
        The user's configuration of conda.
    findings
        Findings about files that can't be read.
    pinned
        Match specs for all installations in *prefix*.
    """

    prefix: str = ""
    records: tuple[RecordFile, ...] = ()
    configuration: CondaConfiguration = field(default_factory=CondaConfiguration)
    findings: tuple[Finding, ...] = ()
    pinned: tuple[str, ...] = ()


def read_conda_facts(
    prefix: str, environ: Mapping[str, str], cache: Callable[[], Path] | None, progress: Progress
) -> CondaFacts:
    """Return the content of the files of the conda environment in *prefix*, and the user's configuration.

    Parameters
    ----------
    prefix
        The conda environment.
    environ
        Environment variables.
    cache
        Returns the folder for the cache of records; called only if the cache pays.
    progress
        Counts the packages, if reading them takes long.
    """
    findings: list[Finding] = []
    records = tuple(read_record_files(record_paths(prefix), findings, cache, progress))
    try:
        configuration = read_conda_configuration(Path(prefix), environ)
    except ScanError as error:  # only a build fails because of it
        configuration = CondaConfiguration()
        findings.append(
            Finding(Severity.ERROR, "conda-configuration-unreadable", error.message, hint=error.hint)
        )
    pinned = (*pinned_specs(prefix), *configuration.pinned_packages)
    return CondaFacts(prefix, records, configuration, tuple(findings), tuple(dict.fromkeys(pinned)))


def requested_specs(prefix: str) -> dict[str, str]:
    """Return the match spec of each package that the user requested, by its conda name.

    Source: conda's ``history.py``; later entries override earlier ones.
    """
    try:
        text = read_bytes(os.path.join(prefix, "conda-meta", "history")).decode("utf-8", "replace")
    except OSError:
        return {}
    requested: dict[str, str] = {}
    for match in _COMMENT.finditer(text):
        for spec in _specs(match["specs"].strip()):
            name = spec_name(spec)
            if match["action"] in _ADDING:
                requested[name] = strip_credentials_in(spec)
            elif match["action"] in ("remove", "uninstall"):
                requested.pop(name, None)
    return {name: spec for name, spec in requested.items() if name}


def pinned_specs(prefix: str) -> tuple[str, ...]:
    """Return the match specs in ``conda-meta/pinned``, which conda applies to each installation.

    Source: conda's ``core/solve.py``, ``get_pinned_specs``.
    """
    try:
        text = read_bytes(os.path.join(prefix, "conda-meta", "pinned")).decode("utf-8", "replace")
    except OSError:
        return ()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(strip_credentials_in(line) for line in lines if line)


def spec_name(spec: str) -> str:
    """Return the package's name in a match spec; empty if it has none.

    >>> spec_name("conda-forge/linux-64::numpy==1.26.4=py311_0"), spec_name("Python >=3.11")
    ('numpy', 'python')
    """
    match = _NAME.match(spec.rpartition("::")[2].strip())
    return match[0].lower() if match else ""


def _specs(text: str) -> list[str]:
    """Return the specs of one line: a list in Python's syntax, or in old files separated by commas."""
    if text.startswith("["):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return []
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
    return [item.strip() for item in text.split(",") if item.strip()]


def channels_of(records: Iterable[CondaRecord], configuration: CondaConfiguration) -> tuple[str, ...]:
    """Return the channels of an environment by priority, as URLs without credentials.

    Channels that have installed packages but aren't configured come first, ordered by their number of
    packages: somebody named them by ``--channel``, which overrides the configuration.
    """
    counted: Counter[str] = Counter()
    for channel, number in Counter(record.channel for record in records if record.channel).items():
        for url in configuration.urls([channel]):
            counted[strip_credentials(url)] += number
    used = [url for url, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
    configured = configuration.public_urls
    return tuple(dict.fromkeys([*(url for url in used if url not in configured), *configured]))


def read_record_files(
    paths: Sequence[str],
    findings: list[Finding],
    cache: Callable[[], Path] | None = None,
    progress: Progress | None = None,
) -> list[RecordFile]:
    """Return the prefix records at *paths*, all of one folder.

    Parameters
    ----------
    paths
        Paths of JSON files.
    findings
        Findings about records that can't be read are appended.
    cache
        Returns the folder for the cache of records; ``None`` for no cache.
    progress
        Counts the packages, if reading them takes long.
    """
    began = time.time_ns()
    stats = {path: _stat(path) for path in paths}
    cached = None
    if cache is not None and paths and sum(value[0] for value in stats.values()) > _WORTH_IT:
        prefix = os.path.dirname(os.path.dirname(os.path.abspath(paths[0])))
        cached = cache_path(cache(), prefix)
    known = {} if cached is None else read_cache(cached, key=_KEY) or {}
    found, fresh = [], False
    progress = progress or SilentProgress()
    with slow_task(progress, "Reading metadata", total=len(paths), unit="packages") as task:
        for path in paths:
            restored = _restored(path, stats[path], known.get(os.path.basename(path)))
            task.advance(1)
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
    """Return the cached content of a record; ``None`` if it has changed."""
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
