"""Bars as SVG, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LABELS, _NUMBERS = 860, 190, 130
_BAR, _GAP, _TITLE = 15, 5, 30
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.ours { fill: #1a7f5a } .theirs { fill: #8c959f } .second { opacity: .45 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #3fb98a } .theirs { fill: #768390 }
}
"""


@dataclass(frozen=True)
class Bar:
    """One bar of two parts.

    Parameters
    ----------
    label
        At its left.
    first, second
        The lengths of its parts, in seconds.
    ours
        Whether it is imagesync's.
    """

    label: str
    first: float
    second: float
    ours: bool


def draw(panels: Sequence[tuple[str, Sequence[Bar]]], *, legend: str, description: str) -> str:
    """Return the SVG of panels of bars, all on one scale.

    Parameters
    ----------
    panels
        Titles with their bars.
    legend
        What the two parts of a bar are.
    description
        For who can't see it.
    """
    longest = max(bar.first + bar.second for _, bars in panels for bar in bars)
    scale = (_WIDTH - _LABELS - _NUMBERS) / longest
    lines, y = [_text(0, 16, legend)], 16
    for title, bars in panels:
        y += _TITLE
        lines.append(_text(0, y, title, " class='title'"))
        y += 8
        for bar in bars:
            kind = "ours" if bar.ours else "theirs"
            middle = y + _BAR - 3
            first, second = bar.first * scale, bar.second * scale
            numbers = f"{_seconds(bar.first)} + {_seconds(bar.second)} s"
            lines += [
                _text(_LABELS - 8, middle, bar.label, " text-anchor='end'"),
                f"<rect class='{kind}' x='{_LABELS}' y='{y}' width='{first:.1f}' height='{_BAR}'/>",
                f"<rect class='{kind} second' x='{_LABELS + first:.1f}' y='{y}' width='{second:.1f}'"
                f" height='{_BAR}'/>",
                _text(_LABELS + first + second + 6, middle, numbers),
            ]
            y += _BAR + _GAP
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {y + 6}' width='{_WIDTH}' role='img'>"
        f"<title>{escape(description)}</title><style>{_STYLE}</style>\n" + "\n".join(lines) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}'{attributes}>{escape(text)}</text>"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
