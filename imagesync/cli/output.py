"""Output that several commands share: JSON, errors on stderr, and findings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.tables import Row, Section, Tone, terminal_width
from imagesync.core.terminal import has_colour, is_interactive
from imagesync.core.text import clean_lines, counted, encodable, wrapped

if TYPE_CHECKING:
    from imagesync.errors import ImagesyncError
    from imagesync.scan.environment import Finding

# Tones of findings by severity, the worst first.
_TONES: dict[str, Tone] = {"error": "bad", "warning": "warning", "info": "quiet"}
_COLOURS = {"error": "red", "hint": "cyan"}


def print_json(value: object) -> None:
    """Print *value* as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_error(error: ImagesyncError, stream: TextIO | None = None) -> None:
    """Print the message, and the hint on a line of its own, to stderr by default."""
    _print("error", error.message, stream)
    if error.hint:
        _print("hint", error.hint, stream)


def _print(word: str, text: str, stream: TextIO | None) -> None:
    stream = sys.stderr if stream is None else stream
    lead = f"{word}:"
    first, *rest = clean_lines(text)
    lines = [f"{lead} {first}", *rest]
    if word == "error" and is_interactive(stream):
        # A hint isn't broken, because it has commands to copy.
        lines = [part for line in lines for part in wrapped(line, terminal_width(stream))]
    shown = encodable("\n".join(lines), stream)
    if has_colour(stream):
        shown = click.style(lead, fg=_COLOURS[word], bold=word == "error") + shown[len(lead) :]
    click.echo(shown, file=stream, color=has_colour(stream))


def short_channels(channels: Iterable[str]) -> dict[str, str]:
    """Return for each channel the last part of its URL, or the whole URL if that is ambiguous."""
    last = {channel: channel.rpartition("/")[2] or "-" for channel in channels}
    names = list(last.values())
    return {channel: name if names.count(name) == 1 else channel for channel, name in last.items()}


def finding_sections(findings: Iterable[Finding]) -> tuple[Section, ...]:
    """Return the table of findings, errors first, or nothing if there are none."""
    severities = list(_TONES)
    ordered = sorted(findings, key=lambda finding: severities.index(finding.severity.value))
    if not ordered:
        return ()
    rows = [
        Row((finding.severity.value, finding.code, _finding_text(finding)), _TONES[finding.severity.value])
        for finding in ordered
    ]
    return (Section(title=counted(len(ordered), "finding"), rows=tuple(rows)),)


def _finding_text(finding: Finding) -> str:
    text = finding.message
    if finding.path and finding.path not in text:
        text = f"{text} ({finding.path})"
    return f"{text} -> {finding.hint}" if finding.hint else text
