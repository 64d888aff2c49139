"""From an interpreter's answer to its environment: folders are read, and who owns what is settled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imagesync.errors import ScanError
from imagesync.scan.conda_claims import mark_conda
from imagesync.scan.distributions import read_folders
from imagesync.scan.duplicates import choose
from imagesync.scan.editables import mark_editables
from imagesync.scan.environment import Environment, Finding, Severity
from imagesync.scan.interpreter import ProbeAnswer
from imagesync.scan.pip_configuration import read_pip_configuration


def assemble(answer: ProbeAnswer, environ: Mapping[str, str], findings: list[Finding]) -> Environment:
    """Return the environment of the interpreter that answered; *findings* are those made before."""
    prefix = answer.interpreter.prefix
    folders = read_folders(answer.path)
    for folder in folders:
        findings += folder.findings
    packages = mark_conda([package for folder in folders for package in folder.packages], prefix)
    packages = choose(mark_editables(packages, folders, findings), findings)
    indexes = _indexes(prefix, environ, findings)
    return Environment(
        python=answer.interpreter,
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        findings=tuple(sorted(set(findings), key=_order)),
        indexes=indexes,
        path=tuple(folder.path for folder in folders),
    )


def _order(finding: Finding) -> tuple[str, str, str, str]:
    return finding.code, finding.package or "", finding.path or "", finding.message


def _indexes(prefix: str, environ: Mapping[str, str], findings: list[Finding]) -> tuple[str, ...]:
    try:
        return read_pip_configuration(prefix=Path(prefix), environ=environ).public_urls
    except ScanError as error:  # a build will need it and stop there; a scan has more to show
        findings.append(
            Finding(Severity.ERROR, "pip-configuration-unreadable", error.message, hint=error.hint)
        )
        return ()
