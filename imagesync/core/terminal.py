"""The terminal that a command writes to: its abilities, and progress that suits it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO

from imagesync.core.progress import PlainProgress, Progress, Severity


def is_interactive(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Return True if *stream* is a terminal that can move its cursor (``TERM`` isn't ``dumb``)."""
    environ = os.environ if environ is None else environ
    return stream.isatty() and environ.get("TERM", "") not in {"dumb", "unknown"}


def has_colour(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Return True if *stream* may be coloured (https://no-color.org)."""
    environ = os.environ if environ is None else environ
    return is_interactive(stream, environ) and not environ.get("NO_COLOR")


def make_progress(
    *,
    least: Severity = Severity.INFO,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> Progress:
    """Return bars for a terminal or a notebook, plain lines for anything else.

    Parameters
    ----------
    least
        The least severe messages that are shown. Without those of severity ``INFO`` there is no progress.
    stream
        Where progress is shown; the notebook by default, else stderr.
    environ
        Environment variables; the process's own by default.
    """
    if stream is None and "IPython" in sys.modules:
        from imagesync.core.notebook_progress import notebook_progress

        if (in_notebook := notebook_progress()) is not None:
            return in_notebook
    stream = sys.stderr if stream is None else stream
    if Severity.INFO.is_shown(least) and is_interactive(stream, environ):
        # Importing rich takes 0.1 s.
        from imagesync.core.rich_progress import RichProgress

        return RichProgress(stream, least=least)
    return PlainProgress(stream, least=least)
