"""Scan: from an interpreter, or the files of a prefix, to an :class:`Environment`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from imagesync.errors import UsageError
from imagesync.scan.environment import Environment, Finding
from imagesync.scan.interpreter import Probe, choose_interpreter


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
        An interpreter (any CPython from 3.8 up), which is run once; by default that of
        ``VIRTUAL_ENV``, of ``CONDA_PREFIX``, else the running one.
    prefix
        A folder, of any platform, whose files are read; nothing in it is run.
    environ
        The environment variables to go by; by default the process's own.
    cache
        Gives the folder for what is remembered of conda's records; called where that pays.

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
        from imagesync.scan.assemble import assemble
        from imagesync.scan.prefix import read_prefix

        return assemble(read_prefix(prefix, findings), environ, findings, cache=cache)
    executable = choose_interpreter(python, environ)
    probe = Probe(executable, environ)
    # What reads the answer is imported while the probe runs, which takes about as long.
    from imagesync.scan.assemble import assemble, read_ahead

    ahead = read_ahead(executable, environ, cache)
    return assemble(probe.answer(), environ, findings, cache=cache, ahead=ahead)
