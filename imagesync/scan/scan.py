"""Scan: from an interpreter, or the files of a prefix, to an :class:`Environment`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

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
    """Return what is installed in an environment, and where each package came from.

    Parameters
    ----------
    python
        An interpreter (any CPython from 3.8 up), which is run once; by default the running one.
    prefix
        A folder, of any platform, whose files are read; nothing in it is run.
    environ
        The environment variables to go by; by default the process's own.
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
) -> Environment:
    """Return what is installed in the environment that was found.

    Parameters
    ----------
    environ
        The environment variables to go by.
    cache
        Gives the folder for what is remembered of conda's records; called where that pays.

    Raises
    ------
    ScanError
        It can't be read at all. Odd metadata is a finding instead.
    """
    findings: list[Finding] = []
    if found.files_only:
        from imagesync.scan.assemble import assemble
        from imagesync.scan.prefix import read_prefix

        return assemble(read_prefix(found.path, findings), environ, findings, cache=cache)
    executable = os.fspath(found.path)
    probe = Probe(executable, environ)
    # What reads the answer is imported while the probe runs, which takes about as long.
    from imagesync.scan.assemble import assemble, read_ahead

    ahead = read_ahead(executable, environ, cache)
    return assemble(probe.answer(), environ, findings, cache=cache, ahead=ahead)
