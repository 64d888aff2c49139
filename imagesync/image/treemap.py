"""Squarified treemaps: rectangles whose areas are sizes, as close to squares as they get.

Source: Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Rectangle(NamedTuple):
    """A rectangle by its upper left corner, in any unit."""

    x: float
    y: float
    width: float
    height: float


def treemap(sizes: Sequence[float], area: Rectangle) -> list[Rectangle]:
    """Return a rectangle in *area* for each of *sizes*, in their order.

    Parameters
    ----------
    sizes
        Greater than zero, and falling.
    area
        The rectangle to divide.

    >>> treemap([3, 1], Rectangle(0, 0, 4, 1))
    [Rectangle(x=0, y=0, width=3.0, height=1.0), Rectangle(x=3.0, y=0, width=1.0, height=1.0)]
    """
    scale = area.width * area.height / sum(sizes) if sizes else 0
    found: list[Rectangle] = []
    waiting = [size * scale for size in sizes]
    while waiting:
        side = min(area.width, area.height)
        count = 1
        while count < len(waiting) and _worst(waiting[: count + 1], side) <= _worst(waiting[:count], side):
            count += 1
        row, waiting = waiting[:count], waiting[count:]
        placed, area = _place(row, area)
        found += placed
    return found


def _worst(row: Sequence[float], side: float) -> float:
    """Return the largest ratio of width and height in a row along a side of that length."""
    total = sum(row)
    if not side or not total:
        return float("inf")
    return max(side**2 * max(row) / total**2, total**2 / (side**2 * min(row)))


def _place(row: Sequence[float], area: Rectangle) -> tuple[list[Rectangle], Rectangle]:
    """Return the rectangles of a row along the shorter side of *area*, and the rest of the area."""
    total, found = sum(row), []
    if area.width >= area.height:
        width, y = total / area.height if area.height else 0.0, area.y
        for size in row:
            height = size / width if width else 0.0
            found.append(Rectangle(area.x, y, width, height))
            y += height
        return found, Rectangle(area.x + width, area.y, area.width - width, area.height)
    height, x = total / area.width if area.width else 0.0, area.x
    for size in row:
        width = size / height if height else 0.0
        found.append(Rectangle(x, area.y, width, height))
        x += width
    return found, Rectangle(area.x, area.y + height, area.width, area.height - height)
