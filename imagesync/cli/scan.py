"""``imagesync scan``: what is installed in an environment."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.options import environment_options, format_option, invocation_of
from imagesync.cli.output import finding_sections, print_json, short_channels
from imagesync.cli.tables import Row, Section, print_sections
from imagesync.core.progress import Severity
from imagesync.core.text import counted
from imagesync.errors import UsageError
from imagesync.scan.discovery import discover
from imagesync.scan.scan import scan_environment
from imagesync.settings.load import load_settings
from imagesync.store.layout import CONDA_RECORDS, default_cache_dir

if TYPE_CHECKING:
    from imagesync.scan.environment import CondaRecord, Environment


@click.command()
@environment_options
@format_option
@click.pass_context
def scan(context: click.Context, /, python: Path | None, prefix: Path | None, output: str) -> None:
    """Show the installed packages and the source of each."""
    progress = invocation_of(context).progress
    found = discover(python=python, prefix=prefix, environ=os.environ, cwd=Path.cwd())
    for warning in found.warnings:
        progress.line(warning, Severity.WARNING)
    environment = scan_environment(found, environ=os.environ, cache=_record_cache, progress=progress)
    progress.line(found.describe(environment.python))
    if output == "json":
        print_json(environment.to_dict())
    else:
        print_environment(environment)


def _record_cache() -> Path:
    try:
        cache_dir = load_settings(cwd=Path.cwd(), environ=os.environ, flags={}).cache_dir
    except UsageError:  # a scan depends on no setting
        cache_dir = None
    return (cache_dir or default_cache_dir()) / CONDA_RECORDS


def print_environment(environment: Environment, stream: TextIO | None = None) -> None:
    """Print interpreter, packages and findings of *environment*, to stdout by default."""
    print_sections(environment_sections(environment), stream)


def environment_sections(environment: Environment) -> tuple[Section, ...]:
    """Return the tables of an environment: conda packages, packages from pip, findings."""
    python = environment.python
    title = f"{python.implementation} {python.version} ({python.platform}) in {python.prefix}"
    rows = tuple(
        Row((p.name, p.version, p.manager, _yes_no(p.requested), p.source.description))
        for p in environment.packages
        if not p.conda
    )
    notes = [_summary(environment)]
    if environment.channels:
        notes.insert(0, f"channels: {' '.join(environment.channels)}")
    headers = ("package", "version", "manager", "requested", "source")
    title_of_pip = "from pip" if environment.conda else title
    packages = Section(title_of_pip, headers, rows, notes=tuple(notes), optional=(2, 3))
    findings = finding_sections(environment.findings)
    if not environment.conda:
        return (packages, *findings)
    conda = _conda_section(environment, title)
    if not rows:
        return (replace(conda, notes=packages.notes), *findings)
    return (conda, packages, *findings)


def _conda_section(environment: Environment, title: str) -> Section:
    shown = short_channels({record.channel for record in environment.conda})
    rows = tuple(
        Row((r.name, r.version, r.build, r.requested_spec or "-", shown[r.channel], _others(r)))
        for r in environment.conda
    )
    headers = ("conda package", "version", "build", "requested", "channel", "distributions")
    return Section(title, headers, rows, optional=(5, 4, 3))


def _others(record: CondaRecord) -> str:
    """Return the distributions of *record*, or nothing if it is a single one of the same name."""
    return "" if record.distributions == (record.name,) else " ".join(record.distributions)


def _summary(environment: Environment) -> str:
    kinds = [p.source.kind for p in environment.packages if not p.conda]
    local = [
        (kinds.count("directory"), "a directory", "directories"),
        (kinds.count("vcs"), "a repository", "repositories"),
        (kinds.count("archive"), "an archive", "archives"),
    ]
    conda = [counted(len(environment.conda), "conda package")] if environment.conda else []
    of_pip = f"{len(kinds)} from pip" if conda else counted(len(kinds), "package")
    others = [f"{number} from {one if number == 1 else several}" for number, one, several in local if number]
    return ", ".join([*conda, of_pip, *others])


def _yes_no(value: bool | None) -> str:
    return "-" if value is None else ("yes" if value else "no")
