"""Output of commands: JSON, tables (aligned text where there is no terminal), and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TextIO

import click

from imagesync.core.terminal import has_colour, is_interactive
from imagesync.core.text import clean, clean_lines, counted, encodable

if TYPE_CHECKING:
    from rich.console import Console

    from imagesync.errors import ImagesyncError
    from imagesync.scan.environment import Finding, Source

Tone = Literal["plain", "good", "warning", "bad", "quiet"]
_STYLES: dict[Tone, str] = {"plain": "", "good": "green", "warning": "yellow", "bad": "red", "quiet": "dim"}
# Tones of findings by severity, the worst first.
_TONES: dict[str, Tone] = {"error": "bad", "warning": "warning", "info": "quiet"}
_COLOURS = {"error": "red", "hint": "cyan"}
_GAP = 2
# The last column is prose and may wrap. If it would be narrower than this, rows become paragraphs.
_PROSE = 24


def print_json(value: object) -> None:
    """Print *value* as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


@dataclass(frozen=True)
class Row:
    """The cells of one row, and their tone."""

    cells: tuple[str, ...]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Section:
    """A part of a command's output: a title, a table and notes.

    Parameters
    ----------
    title
        A line above the table; empty for none.
    headers
        Empty for a table without headers.
    rows
        Empty for a section without a table.
    right
        Indices of right-aligned columns.
    notes
        Lines below the table.
    tone
        The tone of the title.
    """

    title: str
    headers: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    right: frozenset[int] = field(default_factory=frozenset)
    notes: tuple[str, ...] = ()
    tone: Tone = "plain"


def print_sections(sections: Iterable[Section], stream: TextIO | None = None) -> None:
    """Print sections, to stdout by default: tables on a terminal, else aligned text that is never cut."""
    stream = sys.stdout if stream is None else stream
    cleaned = [_cleaned(section) for section in sections]
    if is_interactive(stream):
        _print_rich(cleaned, stream)
    else:
        stream.write(encodable("\n".join(_as_text(section) for section in cleaned), stream))
        stream.flush()


def _cleaned(section: Section) -> Section:
    """Return the section with control characters escaped, as names and messages are untrusted."""
    return Section(
        title=clean(section.title),
        headers=section.headers,
        rows=tuple(Row(tuple(clean(cell) for cell in row.cells), row.tone) for row in section.rows),
        right=section.right,
        notes=tuple(clean(note) for note in section.notes),
        tone=section.tone,
    )


def _widths(section: Section) -> list[int]:
    """Return each column's width in terminal cells."""
    from rich.cells import cell_len

    lines = [section.headers] if section.headers else []
    lines += [row.cells for row in section.rows]
    return [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]


def _as_text(section: Section) -> str:
    """Return the section as lines of aligned text."""
    from rich.cells import cell_len

    widths = _widths(section)

    def line(cells: Sequence[str]) -> str:
        padded = [
            " " * (width - cell_len(cell)) + cell
            if i in section.right
            else cell + " " * (width - cell_len(cell))
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return (" " * _GAP + (" " * _GAP).join(padded)).rstrip()

    lines = [section.title] if section.title else []
    if section.headers and section.rows:
        lines.append(line(section.headers))
    lines += [line(row.cells) for row in section.rows]
    lines += section.notes
    return "".join(f"{text}\n" for text in lines)


def _print_rich(sections: Sequence[Section], stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    for number, section in enumerate(sections):
        if number:
            console.print()
        if section.title:
            console.print(Text(section.title, style=f"bold {_STYLES[section.tone]}".strip()), soft_wrap=True)
        if section.rows:
            widths = _widths(section)
            needed = sum(widths[:-1]) + _GAP * len(widths) + min(widths[-1], _PROSE)
            if needed <= console.width:
                _print_table(section, console)
            else:
                _print_stacked(section, console)
        for note in section.notes:
            console.print(Text(note, style="dim"), soft_wrap=True)


def _print_table(section: Section, console: Console) -> None:
    """Print rows as a table whose last column wraps."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Only a rule under the headers: with 150 rows, lines between them are noise.
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(section.headers), show_edge=False)
    last = len(section.rows[0].cells) - 1
    for i in range(last + 1):
        header = Text(section.headers[i]) if section.headers else ""
        table.add_column(
            header, justify="right" if i in section.right else "left", no_wrap=i < last, overflow="fold"
        )
    for row in section.rows:
        table.add_row(*[Text(cell) for cell in row.cells], style=_STYLES[row.tone])
    console.print(table)


def _print_stacked(section: Section, console: Console) -> None:
    """Print each row as a small paragraph, for a terminal too narrow for the columns."""
    from rich.padding import Padding
    from rich.text import Text

    for row in section.rows:
        first, *others = row.cells
        console.print(Text(first, style=f"bold {_STYLES[row.tone]}".strip(), overflow="fold"))
        for i, cell in enumerate(others, start=1):
            text = f"{section.headers[i]}: {cell}" if section.headers else cell
            if cell:
                console.print(Padding(Text(text, overflow="fold"), (0, 0, 0, _GAP)))


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


def source_text(source: Source) -> str:
    """Return a short description of *source*, with an abbreviated commit."""
    if source.kind == "index":
        return "index"
    if source.kind == "directory":
        return f"{'editable ' if source.editable else ''}directory {source.url or '(unknown)'}"
    if source.refused:
        return f"{source.vcs or 'vcs'}, refused"
    if source.kind == "vcs":
        commit = f" at {source.commit[:12]}" if source.commit else ""
        revision = f" ({source.requested_revision})" if source.requested_revision else ""
        return f"{source.vcs or 'vcs'} {source.url or '(unknown)'}{commit}{revision}"
    return f"archive {source.url or '(unknown)'}"


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
