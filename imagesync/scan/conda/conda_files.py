# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH118
"""What conda's files say of an environment: records, history, pins, and the configured channels."""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagesync.core.credentials import strip_credentials, strip_credentials_in
from imagesync.core.files import read_bytes
from imagesync.errors import ScanError
from imagesync.indexes.conda.conda_configuration import CondaConfiguration, read_conda_configuration
from imagesync.scan.conda.prefix_records import RecordFile, record_paths
from imagesync.scan.conda.record_cache import read_record_files
from imagesync.scan.environment import CondaRecord, Finding, Severity


@dataclass(frozen=True)
class CondaFacts:
    """What conda's files say.

    Parameters
    ----------
    prefix
        The conda environment; empty where there is none.
    findings
        What couldn't be read.
    pinned
        Match specs that hold for whatever is installed in *prefix*.
    """

    prefix: str = ""
    records: tuple[RecordFile, ...] = ()
    configuration: CondaConfiguration = field(default_factory=CondaConfiguration)
    findings: tuple[Finding, ...] = ()
    pinned: tuple[str, ...] = ()


def read_conda_facts(prefix: str, environ: Mapping[str, str], cache: Callable[[], Path] | None) -> CondaFacts:
    """Return what the files of the conda environment in *prefix* say, and the user's configuration.

    Parameters
    ----------
    cache
        Gives the folder for what is remembered of records; called where that pays.
    """
    findings: list[Finding] = []
    records = tuple(read_record_files(record_paths(prefix), findings, cache))
    try:
        configuration = read_conda_configuration(Path(prefix), environ)
    except ScanError as error:  # a build may need it and stop there; a scan has more to show
        configuration = CondaConfiguration()
        findings.append(
            Finding(Severity.ERROR, "conda-configuration-unreadable", error.message, hint=error.hint)
        )
    pinned = (*pinned_specs(prefix), *configuration.pinned_packages)
    return CondaFacts(prefix, records, configuration, tuple(findings), tuple(dict.fromkeys(pinned)))


_COMMENT = re.compile(r"#\s*(?P<action>\w+)\s+specs:\s*(?P<specs>.+)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ADDING = frozenset({"update", "install", "create", "neutered"})


def requested_specs(prefix: str) -> dict[str, str]:
    """Return the match spec of each package that a user has asked for, by its conda name.

    Source: conda's ``history.py``; a later entry about a package takes the place of an earlier one.
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
    """Return the match specs in ``conda-meta/pinned``, which hold for whatever conda installs there.

    Source: conda's ``core/solve.py``, ``get_pinned_specs``.
    """
    try:
        text = read_bytes(os.path.join(prefix, "conda-meta", "pinned")).decode("utf-8", "replace")
    except OSError:
        return ()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(strip_credentials_in(line) for line in lines if line)


def spec_name(spec: str) -> str:
    """Return the package's name in a match spec, or nothing.

    >>> spec_name("conda-forge/linux-64::numpy==1.26.4=py311_0"), spec_name("Python >=3.11")
    ('numpy', 'python')
    """
    match = _NAME.match(spec.rpartition("::")[2].strip())
    return match[0].lower() if match else ""


def _specs(text: str) -> list[str]:
    """Return the specs of one line: a list as Python writes it, or in old files words with commas."""
    if text.startswith("["):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return []
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
    return [item.strip() for item in text.split(",") if item.strip()]


def channels_of(records: Iterable[CondaRecord], configuration: CondaConfiguration) -> tuple[str, ...]:
    """Return the channels of an environment, the first wins, as URLs without credentials.

    Those that packages are from and that aren't configured come first, the one of most packages before the
    others: somebody has named them by ``--channel``, which goes before what is configured.
    """
    counted: Counter[str] = Counter()
    for channel, number in Counter(record.channel for record in records if record.channel).items():
        for url in configuration.urls([channel]):
            counted[strip_credentials(url)] += number
    used = [url for url, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
    configured = configuration.public_urls
    return tuple(dict.fromkeys([*(url for url in used if url not in configured), *configured]))
