"""Scan: from an interpreter, or the files of a prefix, to an :class:`Environment`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from imagesync.errors import ScanError, UsageError
from imagesync.scan.conda_claims import mark_conda
from imagesync.scan.distributions import read_folders
from imagesync.scan.duplicates import choose
from imagesync.scan.editables import mark_editables
from imagesync.scan.environment import Environment, Finding, Severity
from imagesync.scan.interpreter import ProbeAnswer, choose_interpreter, run_probe
from imagesync.scan.pip_configuration import read_pip_configuration


def scan(
    *, python: Path | None = None, prefix: Path | None = None, environ: Mapping[str, str] | None = None
) -> Environment:
    """Return what is installed in an environment, and where each package came from.

    Parameters
    ----------
    python
        An interpreter (any CPython from 3.8 up), which is run once; by default that of
        ``VIRTUAL_ENV``, of ``CONDA_PREFIX``, else the running one.
    prefix
        A folder, of any platform, whose files are read; nothing in it is run.
    environ
        The environment variables to go by; by default the process's own.

    Raises
    ------
    ScanError
        There is no environment, or it can't be read at all. Odd metadata is a finding instead.
    UsageError
        Both *python* and *prefix* are given.
    """
    environ = os.environ if environ is None else environ
    if python is not None and prefix is not None:
        raise UsageError("--python and --prefix exclude each other", hint="Give one of them.")
    findings: list[Finding] = []
    if prefix is not None:
        from imagesync.scan.prefix import read_prefix

        answer = read_prefix(prefix, findings)
    else:
        answer = run_probe(choose_interpreter(python, environ), environ)
    return _assemble(answer, environ, findings)


def _assemble(answer: ProbeAnswer, environ: Mapping[str, str], findings: list[Finding]) -> Environment:
    """Read the folders, and settle what belongs to whom."""
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
