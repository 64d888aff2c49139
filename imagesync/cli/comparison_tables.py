"""What ``diff`` answers a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from imagesync.cli.section import Row as TableRow
from imagesync.cli.section import Section, Tone, print_sections
from imagesync.core.text import counted
from imagesync.inventory.comparison import Comparison, Group, Row
from imagesync.inventory.wording import states

if TYPE_CHECKING:
    from collections.abc import Iterable

_TITLES = {
    Group.DIFFERS: "differs",
    Group.ONE_SIDED: "only on one side",
    Group.WITHIN: "another version, within its level",
    Group.SAME: "the same",
}


def print_comparison(comparison: Comparison, stream: TextIO | None = None) -> None:
    """Print how two sides compare, to stdout if no *stream* is given."""
    print_sections(comparison_sections(comparison), stream)


def comparison_sections(comparison: Comparison) -> tuple[Section, ...]:
    """Return how two sides compare: what differs first, and in it what counts."""
    sections = [_group_section(comparison, group) for group in _TITLES]
    if comparison.silent:
        rows = tuple(TableRow((member, why), "warning") for member, why in comparison.silent.items())
        sections.append(Section("gave no answer", ("member", "reason"), rows, tone="warning"))
    return (*(section for section in sections if section.rows), _summary(comparison))


def _group_section(comparison: Comparison, group: Group) -> Section:
    rows = sorted(comparison.of(group), key=lambda row: (not row.counts, row.intended, row.name))
    counting = sum(row.counts for row in rows)
    title = f"{_TITLES[group]} ({len(rows)}"
    title += f", of which {counting} critical, exact or local code)" if counting else ")"
    tone: Tone = "bad" if counting else "plain"
    headers = ("package", comparison.left, comparison.right, "level", "")
    return Section(title, headers, tuple(_table_rows(rows)), tone=tone)


def _table_rows(rows: Iterable[Row]) -> Iterable[TableRow]:
    for row in rows:
        level = "local code" if row.local else "" if row.level is None else row.level.value
        cells = (row.name, states(row.left), states(row.right), level, "; ".join(row.notes))
        tone: Tone = "plain" if row.group is Group.SAME else "warning"
        yield TableRow(cells, "bad" if row.counts else "quiet" if row.intended else tone)


def _summary(comparison: Comparison) -> Section:
    numbers = {group: len(comparison.of(group)) for group in Group}
    parts = [f"{number} {group.value}" for group, number in numbers.items() if number]
    total = counted(sum(numbers.values()), "package")
    verdict = (
        "Nothing that is critical, exact or local code differs."
        if comparison.matches
        else "They don't match: something critical, exact or local differs."
    )
    return Section("", notes=(f"{total}: {', '.join(parts)}" if parts else total, verdict))
