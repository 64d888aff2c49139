"""Errors and findings as lines on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

import click

from imagesync.core.terminal import has_colour
from imagesync.core.text import clean_lines, encodable
from imagesync.errors import ImagesyncError
from imagesync.lock.lock import Deviation
from imagesync.scan.environment import Finding, Severity

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan", "hint": "cyan"}
_WORDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def print_error(error: ImagesyncError, stream: TextIO | None = None) -> None:
    """Print what happened, and on a line of its own what to do next."""
    _print("error", error.message, stream)
    if error.hint:
        _print("hint", error.hint, stream)


def print_findings(findings: Iterable[Finding], stream: TextIO | None = None) -> None:
    """Print each finding as a line, with the file that it is about and what to do."""
    for finding in findings:
        message = finding.message
        if finding.path and finding.path not in message:
            message = f"{message} ({finding.path})"
        _print(_WORDS[finding.severity], message, stream)
        if finding.hint:
            _print("hint", finding.hint, stream)


def print_deviations(deviations: Iterable[Deviation], stream: TextIO | None = None) -> None:
    """Print for each deviation which version is here, which is in the image, and why."""
    for deviation in deviations:
        versions = f"{deviation.local} here and {deviation.locked or 'missing'} in the image"
        _print("warning", f"{deviation.name} is {versions}: {deviation.reason}", stream)


def _print(word: str, text: str, stream: TextIO | None) -> None:
    stream = sys.stderr if stream is None else stream
    first, *rest = clean_lines(text)
    lead = f"{word}:"
    if has_colour(stream):
        lead = click.style(lead, fg=_COLOURS[word], bold=word == "error")
    click.echo(
        encodable("\n".join([f"{lead} {first}", *rest]), stream), file=stream, color=has_colour(stream)
    )
