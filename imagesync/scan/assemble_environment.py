# Paths stay strings, as everywhere in a scan.
# ruff: noqa: PTH100, PTH112, PTH118, PTH120
"""Assemble an environment: read the folders of an interpreter, and decide who owns each package."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.progress import Progress
from imagesync.errors import ScanError
from imagesync.indexes.pypi.project_configuration import read_index_configuration
from imagesync.scan.distributions.duplicates import drop_duplicates
from imagesync.scan.distributions.editables import mark_editables
from imagesync.scan.distributions.installed import read_folders
from imagesync.scan.environment import CondaRecord, Environment, Finding, Severity
from imagesync.scan.interpreter import ProbeAnswer
from imagesync.scan.pip_commands import Installer

if TYPE_CHECKING:
    from imagesync.scan.conda.conda_meta import CondaFacts


def assemble(
    answer: ProbeAnswer,
    environ: Mapping[str, str],
    findings: list[Finding],
    *,
    progress: Progress,
    cache: Callable[[], Path] | None = None,
    conda_facts: CondaFacts | None = None,
) -> Environment:
    """Return the environment of the interpreter that *answer* describes.

    Parameters
    ----------
    answer
        The answer of the probe.
    environ
        Environment variables.
    findings
        Findings of the scan so far; more are appended.
    progress
        Counts the packages, if reading them takes long.
    cache
        Returns the folder for the cache of conda's records; called only if the cache pays.
    conda_facts
        The content of conda's files, if it was read already.
    """
    prefix, base = answer.interpreter.prefix, answer.interpreter.base_prefix
    folders = read_folders(answer.path, progress)
    for folder in folders:
        findings += folder.findings
    packages = [package for folder in folders for package in folder.packages]
    installer = Installer(answer.interpreter, has_pip=any(package.name == "pip" for package in packages))
    packages = drop_duplicates(mark_editables(packages, folders, findings, installer), findings, installer)
    root = conda_prefix([folder.path for folder in folders], prefix, base)
    conda: tuple[CondaRecord, ...] = ()
    replaced: tuple[CondaRecord, ...] = ()
    channels: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    channel_priority = ""
    if root or any(package.manager == "conda" for package in packages):
        from imagesync.scan.conda.conda_meta import channels_of
        from imagesync.scan.conda.ownership import decide_owners

        facts = _conda_facts(root, environ, cache, progress, conda_facts)
        findings += facts.findings
        owned = decide_owners(packages, facts.records, root, findings, installer)
        packages, conda, replaced = owned.packages, owned.conda, owned.replaced
        if root:
            channels = channels_of((*conda, *replaced), facts.configuration)
            pinned = facts.pinned
            channel_priority = facts.configuration.channel_priority
    indexes, file_choice = _indexes(prefix, environ, findings)
    return Environment(
        python=answer.interpreter,
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        indexes=indexes,
        path=tuple(folder.path for folder in folders),
        conda=conda,
        channels=channels,
        replaced=replaced,
        pinned=pinned,
        file_choice=file_choice,
        channel_priority=channel_priority,
        findings=tuple(sorted(set(findings), key=_order)),
    )


def conda_prefix(path: Sequence[str], prefix: str, base_prefix: str) -> str:
    """Return the conda environment that packages on *path* may belong to; empty if there is none.

    It is *prefix* itself, or for a virtual environment that sees the packages of a conda environment the
    one that it was made from.
    """
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        return prefix
    if base_prefix != prefix and os.path.isdir(os.path.join(base_prefix, "conda-meta")):
        base = os.path.join(os.path.realpath(base_prefix), "")
        inside = os.path.join(os.path.realpath(prefix), "")
        seen = (os.path.realpath(folder) for folder in path)
        if any(folder.startswith(base) and not folder.startswith(inside) for folder in seen):
            return base_prefix
    return ""


def read_conda_ahead(
    executable: str, environ: Mapping[str, str], cache: Callable[[], Path] | None, progress: Progress
) -> CondaFacts | None:
    """Return the content of conda's files in the environment of *executable*; ``None`` without conda."""
    folder = os.path.dirname(os.path.abspath(executable))
    for prefix in (os.path.dirname(folder), folder):  # on Windows python.exe is in the prefix itself
        if os.path.isdir(os.path.join(prefix, "conda-meta")):
            from imagesync.scan.conda.conda_meta import read_conda_facts

            return read_conda_facts(prefix, environ, cache, progress)
    return None


def _conda_facts(
    prefix: str,
    environ: Mapping[str, str],
    cache: Callable[[], Path] | None,
    progress: Progress,
    known: CondaFacts | None,
) -> CondaFacts:
    from imagesync.scan.conda.conda_meta import CondaFacts, read_conda_facts

    if known is not None and os.path.realpath(known.prefix) == os.path.realpath(prefix):
        return known
    return read_conda_facts(prefix, environ, cache, progress) if prefix else CondaFacts()


def _order(finding: Finding) -> tuple[str, str, str, str]:
    return finding.code, finding.package or "", finding.path or "", finding.message


def _indexes(prefix: str, environ: Mapping[str, str], findings: list[Finding]) -> tuple[tuple[str, ...], str]:
    """Return the URLs of the indexes, and the digest of what else decides which file is taken."""
    try:
        configured = read_index_configuration(Path(prefix), environ)
        choice = json.dumps(configured.file_choice, sort_keys=True, default=str)
        urls = tuple(dict.fromkeys((*configured.public_urls, *configured.bound_urls)))
        return urls, hashlib.sha256(choice.encode()).hexdigest()
    except ScanError as error:  # a build will need it and stop there; a scan has more to show
        findings.append(
            Finding(Severity.ERROR, "pip-configuration-unreadable", error.message, hint=error.hint)
        )
        return (), ""
