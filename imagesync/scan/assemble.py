# Paths stay strings, as everywhere in a scan.
# ruff: noqa: PTH100, PTH112, PTH118, PTH120
"""From an interpreter's answer to its environment: folders are read, and who owns what is settled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.errors import ScanError
from imagesync.scan.distributions import read_folders
from imagesync.scan.duplicates import choose
from imagesync.scan.editables import mark_editables
from imagesync.scan.environment import Environment, Finding, Package, Severity
from imagesync.scan.interpreter import ProbeAnswer
from imagesync.scan.pip_configuration import read_pip_configuration

if TYPE_CHECKING:
    from imagesync.scan.conda import Ownership


def assemble(
    answer: ProbeAnswer,
    environ: Mapping[str, str],
    findings: list[Finding],
    *,
    cache: Callable[[], Path] | None = None,
) -> Environment:
    """Return the environment of the interpreter that answered.

    Parameters
    ----------
    findings
        Those made before; gets more.
    cache
        Gives the folder for what is remembered of conda's records; called where that pays.
    """
    prefix, base = answer.interpreter.prefix, answer.interpreter.base_prefix
    folders = read_folders(answer.path)
    for folder in folders:
        findings += folder.findings
    packages = [package for folder in folders for package in folder.packages]
    packages = choose(mark_editables(packages, folders, findings), findings)
    owned = _owned(packages, conda_prefix([folder.path for folder in folders], prefix, base), findings, cache)
    packages = owned.packages if owned else packages
    return Environment(
        python=answer.interpreter,
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        indexes=_indexes(prefix, environ, findings),
        path=tuple(folder.path for folder in folders),
        conda=owned.conda if owned else (),
        channels=_channels(owned, prefix, environ, findings) if owned and owned.conda else (),
        replaced=owned.replaced if owned else (),
        findings=tuple(sorted(set(findings), key=_order)),
    )


def conda_prefix(path: Sequence[str], prefix: str, base_prefix: str) -> str:
    """Return the conda environment that packages on *path* may be from, or nothing.

    It is *prefix* itself, or for a virtual environment that sees the packages of a conda environment the
    one that it was made from.
    """
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        return prefix
    if base_prefix != prefix and os.path.isdir(os.path.join(base_prefix, "conda-meta")):
        base = os.path.join(os.path.realpath(base_prefix), "")
        own = os.path.join(os.path.realpath(prefix), "")
        seen = (os.path.realpath(folder) for folder in path)
        if any(folder.startswith(base) and not folder.startswith(own) for folder in seen):
            return base_prefix
    return ""


def import_conda_parts(executable: str) -> None:
    """Import what reads a conda environment, if *executable* is in one."""
    folder = os.path.dirname(os.path.abspath(executable))
    if any(os.path.isdir(os.path.join(place, "conda-meta")) for place in (os.path.dirname(folder), folder)):
        import imagesync.scan.conda_cache
        import imagesync.scan.conda_channels
        import imagesync.scan.conda_configuration  # noqa: F401


def _owned(
    packages: list[Package], prefix: str, findings: list[Finding], cache: Callable[[], Path] | None
) -> Ownership | None:
    """Return what is conda's and what is pip's; ``None`` where nothing is conda's."""
    if not prefix and all(package.manager == "pip" for package in packages):
        return None
    from imagesync.scan.conda import record_paths, settle
    from imagesync.scan.conda_cache import read_record_files

    records = read_record_files(record_paths(prefix), findings, cache) if prefix else []
    return settle(packages, records, prefix, findings)


def _channels(
    owned: Ownership, prefix: str, environ: Mapping[str, str], findings: list[Finding]
) -> tuple[str, ...]:
    from imagesync.scan.conda_channels import channels_of
    from imagesync.scan.conda_configuration import CondaConfiguration, read_conda_configuration

    try:
        configuration = read_conda_configuration(Path(prefix), environ)
    except ScanError as error:  # a build may need it and stop there; a scan has more to show
        findings.append(
            Finding(Severity.ERROR, "conda-configuration-unreadable", error.message, hint=error.hint)
        )
        configuration = CondaConfiguration()
    return channels_of((*owned.conda, *owned.replaced), configuration)


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
