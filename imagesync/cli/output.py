"""Output of commands: JSON, or tables, which are aligned text where there is no terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TextIO

import click

from imagesync.core.terminal import is_interactive
from imagesync.core.text import clean, encodable

if TYPE_CHECKING:
    from rich.console import Console

Tone = Literal["plain", "good", "warning", "bad", "quiet"]
_STYLES: dict[Tone, str] = {"plain": "", "good": "green", "warning": "yellow", "bad": "red", "quiet": "dim"}
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
