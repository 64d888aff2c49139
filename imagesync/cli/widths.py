"""Text and columns that fit a number of terminal cells."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from imagesync.core.text import cell_width

# A column of at most this many cells is never cut where wider ones can be.
_NARROW = 20
# The share of its texts that a wide column should show in full.
_TYPICAL = 0.9


def shortened(text: str, width: int, ellipsis: str = "…") -> str:
    """Return *text* cut to *width* cells: between words, unless less than half would remain.

    >>> shortened("Later fixes of the same release", 24), shortened("file:///home/me/project", 12)
    ('Later fixes of the same…', 'file:///hom…')
    """
    if cell_width(text) <= width:
        return text
    room = width - len(ellipsis)
    if room <= 0:
        return ellipsis[: max(width, 0)]
    kept = text
    while cell_width(kept) > room:
        kept = kept[:-1]
    if text[len(kept)] != " ":
        words = kept.rpartition(" ")[0]
        kept = words if 2 * cell_width(words) >= room else kept
    return kept.rstrip() + ellipsis


def column_widths(columns: Sequence[Sequence[int]], available: int) -> list[int]:
    """Return the width of each column, so that all fit: narrow ones first, and few cells are cut.

    Parameters
    ----------
    columns
        The widths of the cells of each column, its header first.
    available
        The width for all columns together.

    >>> column_widths([[5, 6, 4], [8, 9, 8]], 80)
    [6, 9]
    >>> column_widths([[5, 6, 4], [8, 9, 60]], 30)
    [6, 24]
    """
    floor = _filled([0] * len(columns), [typical_width(column) for column in columns], available)
    return _filled(floor, [max(column) for column in columns], available)


def typical_width(column: Sequence[int]) -> int:
    """Return the width of a column that shows its header and, if it is wide, most of its texts in full."""
    if max(column) <= _NARROW:
        return max(column)
    texts = sorted(width for width in column if width)
    return max(column[0], texts[ceil(_TYPICAL * len(texts)) - 1])


def _filled(floor: Sequence[int], wanted: Sequence[int], available: int) -> list[int]:
    """Return *floor* raised towards *wanted*, the columns that want least first, within *available*."""
    widths = list(floor)
    left = max(available - sum(floor), 0)
    order = sorted(range(len(floor)), key=lambda index: wanted[index] - floor[index])
    for place, index in enumerate(order):
        added = min(wanted[index] - floor[index], left // (len(order) - place))
        widths[index] += added
        left -= added
    return widths
