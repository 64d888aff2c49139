"""All that is read of a conda environment beside its packages' metadata, which may happen ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagesync.errors import ScanError
from imagesync.indexes.conda.conda_configuration import CondaConfiguration, read_conda_configuration
from imagesync.scan.conda.history import pinned_specs
from imagesync.scan.conda.packages import record_paths
from imagesync.scan.conda.record_cache import read_record_files
from imagesync.scan.conda.records import RecordFile
from imagesync.scan.environment import Finding, Severity


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
