"""Errors as lines on stderr."""

from __future__ import annotations

import sys
from typing import TextIO

import click

from imagesync.core.terminal import has_colour
from imagesync.core.text import clean_lines, encodable
from imagesync.errors import ImagesyncError

_COLOURS = {"error": "red", "hint": "cyan"}


def print_error(error: ImagesyncError, stream: TextIO | None = None) -> None:
    """Print the message, and the hint on a line of its own, to stderr by default."""
    _print("error", error.message, stream)
    if error.hint:
        _print("hint", error.hint, stream)


def _print(word: str, text: str, stream: TextIO | None) -> None:
    stream = sys.stderr if stream is None else stream
    first, *rest = clean_lines(text)
    lead = f"{word}:"
    if has_colour(stream):
        lead = click.style(lead, fg=_COLOURS[word], bold=word == "error")
    click.echo(
        encodable("\n".join([f"{lead} {first}", *rest]), stream), file=stream, color=has_colour(stream)
    )
