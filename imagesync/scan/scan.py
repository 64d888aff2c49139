"""Scan: from an interpreter, or the files of a prefix, to an :class:`Environment`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from imagesync.core.progress import Progress, SilentProgress
from imagesync.scan.discovery import FoundEnvironment, locate
from imagesync.scan.environment import Environment, Finding
from imagesync.scan.interpreter import Probe


def scan(
    *,
    python: Path | None = None,
    prefix: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cache: Callable[[], Path] | None = None,
) -> Environment:
    """Return an environment: its installed packages, and the source of each.

    Parameters
    ----------
    python
        An interpreter (CPython 3.8 or later), which is run once; by default the running one.
    prefix
        A folder, of any platform, whose files are read; nothing in it is run.
    environ
        Environment variables; by default those of this process.
    cache
        As for :func:`scan_environment`.

    Raises
    ------
    ScanError
        There is no environment, or it can't be read at all. Odd metadata is a finding instead.
    UsageError
        Both *python* and *prefix* are given.
    """
    environ = os.environ if environ is None else environ
    found = locate(python=python, prefix=prefix, environ=environ)
    return scan_environment(found, environ=environ, cache=cache)


def scan_environment(
    found: FoundEnvironment,
    *,
    environ: Mapping[str, str],
    cache: Callable[[], Path] | None = None,
    progress: Progress | None = None,
) -> Environment:
    """Return the installed packages of the environment that was found, and the source of each.

    Parameters
    ----------
    found
        The environment.
    environ
        Environment variables.
    cache
        Returns the folder for the cache of conda's records; called only if the cache pays.
    progress
        Counts the packages, if reading them takes long.

    Raises
    ------
    ScanError
        It can't be read at all. Odd metadata is a finding instead.
    """
    findings: list[Finding] = []
    progress = progress or SilentProgress()
    if found.files_only:
        from imagesync.scan.assemble_environment import assemble
        from imagesync.scan.prefix import read_prefix

        answer = read_prefix(found.path, findings)
        return assemble(answer, environ, findings, cache=cache, progress=progress)
    executable = os.fspath(found.path)
    probe = Probe(executable, environ)
    # Imported while the probe runs, which takes about as long.
    from imagesync.scan.assemble_environment import assemble, read_conda_ahead

    conda_facts = read_conda_ahead(executable, environ, cache, progress)
    return assemble(
        probe.answer(), environ, findings, cache=cache, conda_facts=conda_facts, progress=progress
    )
