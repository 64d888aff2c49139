"""Tables for people: one line per row that fits the terminal, elsewhere aligned text that is never cut."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TextIO

import click

from imagesync.cli.widths import column_widths, shortened, typical_width
from imagesync.core.terminal import has_colour, is_interactive
from imagesync.core.text import cell_width, clean, encodable, wrapped

Tone = Literal["plain", "good", "warning", "bad", "quiet"]
_STYLES: dict[Tone, dict[str, Any]] = {
    "plain": {},
    "good": {"fg": "green"},
    "warning": {"fg": "yellow"},
    "bad": {"fg": "red"},
    "quiet": {"dim": True},
}
_GAP = 2
# A wrapped last column that would be narrower than this makes rows paragraphs.
_PROSE = 24
# A table drops optional columns rather than cut usual cells of a column to fewer terminal cells than this.
_READABLE = 20
# Rows become paragraphs rather than cut usual cells to fewer terminal cells than this.
_LEAST = 8
# A table of more rows than this doesn't wrap its last column.
_WRAPPED_ROWS = 10


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
        Empty for a table without headers, whose last column wraps.
    rows
        Empty for a section without a table.
    right
        Indices of right-aligned columns.
    notes
        Lines below the table.
    tone
        The tone of the title.
    shared
        Index of a column whose value becomes a heading, on a terminal, where several rows have the same one.
    optional
        Indices of columns that a narrow terminal drops, in this order; a value that all rows have goes above
        the table instead.
    wraps
        Whether the last column of a short table wraps instead of being cut.
    """

    title: str
    headers: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    right: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    tone: Tone = "plain"
    shared: int | None = None
    optional: tuple[int, ...] = ()
    wraps: bool = False


class _Line(NamedTuple):
    text: str
    style: dict[str, Any]


def print_sections(sections: Iterable[Section], stream: TextIO | None = None) -> None:
    """Print sections, to stdout by default."""
    stream = sys.stdout if stream is None else stream
    cleaned = [_cleaned(section) for section in sections]
    if not is_interactive(stream):
        stream.write(encodable("\n".join(map(_as_text, cleaned)), stream))
        stream.flush()
        return
    layout = _Layout(terminal_width(stream), "…" if encodable("…", stream) == "…" else "...")
    for number, section in enumerate(cleaned):
        if number:
            click.echo(file=stream)
        _print_lines(layout.lines(section), stream)
    if layout.has_cut:
        note = f"Cut to {layout.width} columns; piped output is complete."
        _print_lines([_Line(line, {"dim": True}) for line in ["", *wrapped(note, layout.width)]], stream)


def _print_lines(lines: Iterable[_Line], stream: TextIO) -> None:
    colour = has_colour(stream)
    for line in lines:
        text = encodable(line.text.rstrip(), stream)
        click.echo(
            click.style(text, **line.style) if text and line.style else text, file=stream, color=colour
        )


def terminal_width(stream: TextIO) -> int:
    """Return the columns of a terminal: of ``COLUMNS``, else as it says itself, else 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _cleaned(section: Section) -> Section:
    """Return the section with control characters escaped, as names and messages are untrusted."""
    return replace(
        section,
        title=clean(section.title),
        headers=tuple(clean(header) for header in section.headers),
        rows=tuple(Row(tuple(clean(cell) for cell in row.cells), row.tone) for row in section.rows),
        notes=tuple(clean(note) for note in section.notes),
    )


def _as_text(section: Section) -> str:
    """Return the section as lines of aligned text."""
    lines = [section.headers] if section.headers and section.rows else []
    lines += [row.cells for row in section.rows]
    widths = _natural_widths(section)
    table = [_joined(cells, widths, section.right) for cells in lines]
    title = [section.title] if section.title else []
    return "".join(f"{text}\n" for text in (*title, *table, *section.notes))


def _natural_widths(section: Section) -> list[int]:
    """Return the widths of columns in which nothing is cut."""
    lines = [section.headers] if section.headers else []
    lines += [row.cells for row in section.rows]
    return [max(map(cell_width, column)) for column in zip(*lines, strict=True)]


def _fits(section: Section, width: int) -> bool:
    """Return True if the last column has room to wrap beside the others."""
    *others, last = _natural_widths(section)
    return sum(others) + _GAP * (len(others) + 1) + min(last, _PROSE) <= width


def _joined(cells: Sequence[str], widths: Sequence[int], right: Iterable[int]) -> str:
    padded = []
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        space = " " * (width - cell_width(cell))
        padded.append(space + cell if index in right else cell + space)
    return (" " * _GAP + (" " * _GAP).join(padded)).rstrip()


@dataclass
class _Layout:
    """Layout of sections for a terminal of one width; ``has_cut`` tells whether anything was left away."""

    width: int
    ellipsis: str
    has_cut: bool = False

    def lines(self, section: Section) -> Iterator[_Line]:
        """Yield the lines of a section."""
        for line in wrapped(section.title, self.width) if section.title else ():
            yield _Line(line, {"bold": True, **_STYLES[section.tone]})
        if section.rows:
            may_wrap = not section.headers or (section.wraps and len(section.rows) <= _WRAPPED_ROWS)
            narrowed = self._narrowed(section) if may_wrap else None
            if narrowed is not None:
                yield from self._wrapped_table(narrowed)
            else:
                yield from self._table(section) if section.headers else self._stacked(section)
        for note in section.notes:
            for line in wrapped(note, self.width):
                yield _Line(line, {"dim": True})

    def _table(self, section: Section) -> Iterator[_Line]:
        """Yield one line per row, below a heading where several rows share a value."""
        shared = section.shared
        times = Counter(row.cells[shared] for row in section.rows if shared is not None and row.cells[shared])
        values = [value for value, number in times.items() if number > 1]
        own = [row for row in section.rows if shared is None or row.cells[shared] not in values]
        columns = [index for index in range(len(section.headers)) if index != shared or own]
        shown, constants = self._shown_columns(section, columns, own)
        if constants:
            yield _Line(f"{' ' * _GAP}{', '.join(constants)}", {"dim": True})
        widths = self._widths(section, shown, own)
        if widths is None:
            yield from self._stacked(section)
            return
        yield self._line(
            [section.headers[index] for index in shown], widths, section, shown, {"underline": True}
        )
        for row in own:
            yield self._line([row.cells[index] for index in shown], widths, section, shown, _STYLES[row.tone])
        for value in values:
            for line in wrapped(value, self.width - _GAP):
                yield _Line(" " * _GAP + line, {"italic": True, "dim": True})
            for row in section.rows:
                if shared is not None and row.cells[shared] == value:
                    cells = ["" if index == shared else row.cells[index] for index in shown]
                    yield self._line(cells, widths, section, shown, _STYLES[row.tone])

    def _shown_columns(
        self, section: Section, columns: Sequence[int], own: Sequence[Row]
    ) -> tuple[list[int], list[str]]:
        """Return the columns to show, and a text for each that has one value in all rows of a wide table."""
        shown = [index for index in columns if index == 0 or any(row.cells[index] for row in section.rows)]
        constants = []
        for index in section.optional:
            if index not in shown:
                continue
            values = {row.cells[index] for row in section.rows}
            if len(section.rows) > 1 and len(values) == 1 and self._exceeds(section, shown, own):
                shown.remove(index)
                constants.append(f"{section.headers[index]}: {values.pop()}")
            elif self._exceeds(section, shown, own, readable=_READABLE):
                shown.remove(index)
                self.has_cut = True
        return shown, constants

    def _demands(self, section: Section, shown: Sequence[int], own: Sequence[Row]) -> list[list[int]]:
        rows = {index: own if index == section.shared else section.rows for index in shown}
        return [
            [
                min(cell_width(section.headers[index]), _READABLE),
                *(cell_width(row.cells[index]) for row in rows[index]),
            ]
            for index in shown
        ]

    def _exceeds(
        self, section: Section, shown: Sequence[int], own: Sequence[Row], *, readable: int | None = None
    ) -> bool:
        """Return True if the table is wider than the terminal, or a column narrower than is readable."""
        demands = self._demands(section, shown, own)
        available = self.width - _GAP * len(shown)
        if readable is None:
            return sum(map(max, demands)) > available
        widths = column_widths(demands, available)
        return any(
            width < min(readable, typical_width(column))
            for width, column in zip(widths, demands, strict=True)
        )

    def _widths(self, section: Section, shown: Sequence[int], own: Sequence[Row]) -> list[int] | None:
        if self._exceeds(section, shown, own, readable=_LEAST):
            return None
        return column_widths(self._demands(section, shown, own), self.width - _GAP * len(shown))

    def _line(
        self,
        cells: Sequence[str],
        widths: Sequence[int],
        section: Section,
        shown: Sequence[int],
        style: dict[str, Any],
    ) -> _Line:
        cut = [shortened(cell, width, self.ellipsis) for cell, width in zip(cells, widths, strict=True)]
        self.has_cut |= cut != list(cells)
        right = {place for place, index in enumerate(shown) if index in section.right}
        return _Line(_joined(cut, widths, right), style)

    def _narrowed(self, section: Section) -> Section | None:
        """Return a section whose last column has room to wrap, without optional columns if it must be."""
        if _fits(section, self.width):
            return section
        kept = [index for index in range(len(section.headers)) if index not in section.optional]
        narrow = replace(
            section,
            headers=tuple(section.headers[index] for index in kept),
            rows=tuple(Row(tuple(row.cells[index] for index in kept), row.tone) for row in section.rows),
            right=frozenset(kept.index(index) for index in section.right if index in kept),
        )
        if not section.optional or not _fits(narrow, self.width):
            return None
        self.has_cut = True
        return narrow

    def _wrapped_table(self, section: Section) -> Iterator[_Line]:
        """Yield rows whose last column wraps."""
        *widths, _ = _natural_widths(section)
        start = sum(widths) + _GAP * (len(widths) + 1)
        if section.headers:
            last = cell_width(section.headers[-1])
            yield _Line(_joined(section.headers, [*widths, last], section.right), {"underline": True})
        for row in section.rows:
            first, *others = wrapped(row.cells[-1], self.width - start)
            cells = (*row.cells[:-1], first)
            yield _Line(_joined(cells, [*widths, cell_width(first)], section.right), _STYLES[row.tone])
            for line in others:
                yield _Line(" " * start + line, _STYLES[row.tone])

    def _stacked(self, section: Section) -> Iterator[_Line]:
        """Yield each row as a small paragraph, for a terminal too narrow for the columns."""
        for row in section.rows:
            for number, cell in enumerate(row.cells):
                header = (
                    f"{section.headers[number]}: "
                    if section.headers and number and section.headers[number]
                    else ""
                )
                indent = " " * _GAP if number else ""
                for line in wrapped(f"{header}{cell}", self.width - len(indent)) if cell else ():
                    yield _Line(indent + line, {**_STYLES[row.tone], **({} if number else {"bold": True})})
