"""The report on an image as one self-contained HTML page, with a treemap of the sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.core.text import counted, format_size
from imagesync.image.templates import shipped_templates
from imagesync.image.treemap import Rectangle, treemap

if TYPE_CHECKING:
    from imagesync.image.image_report import ImageReport, ReportLayer

# The aspect ratio of the map, and the smallest part of it that is drawn on its own, in percent.
_AREA = Rectangle(0, 0, 160, 90)
_SMALLEST = 0.05


@dataclass(frozen=True)
class Box:
    """A rectangle of the map, in percent of its width and height.

    Parameters
    ----------
    style
        Its place as CSS.
    name
        What it stands for.
    size
        In words.
    owner
        ``base`` or ``environment``.
    title
        What pointing at it shows.
    """

    style: str
    name: str
    size: str
    owner: str
    title: str


def report_page(report: ImageReport) -> str:
    """Return the page, which loads nothing from anywhere."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped_templates()),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["size"] = format_size
    packages = (
        []
        if report.inventory is None
        else [entry for entry in report.inventory.entries if not entry.left_out]
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        boxes=list(_boxes(report)),
        layers=sorted(report.layers, key=lambda layer: -layer.size),
        packages=packages,
        count=counted(len(packages), "package"),
    )


def _boxes(report: ImageReport) -> Iterator[Box]:
    """Yield the rectangles: layers by owner, and in a layer its packages where their sizes are known."""
    sized = [layer for layer in report.layers if layer.size]
    layers = sorted(sized, key=lambda layer: (layer.owner == "base", -layer.size))
    owners = sorted({layer.owner for layer in layers}, key=report.size_of, reverse=True)
    for owner, area in zip(owners, treemap([report.size_of(owner) for owner in owners], _AREA), strict=True):
        own = [layer for layer in layers if layer.owner == owner]
        for layer, rectangle in zip(own, treemap([layer.size for layer in own], area), strict=True):
            yield from _layer_boxes(layer, rectangle, report.size)


def _layer_boxes(layer: ReportLayer, area: Rectangle, total: int) -> Iterator[Box]:
    known = sorted(layer.contents.items(), key=lambda item: -item[1])
    large = [(name, size) for name, size in known if 100 * size / total >= _SMALLEST]
    rest = layer.size - sum(size for _, size in large)
    parts = [*large]
    if rest > 0:
        others = len(known) - len(large)
        name = counted(others, "small package") if large and others else "" if large else layer.description
        parts.append((name, rest))
        parts.sort(key=lambda item: -item[1])
    for (name, size), rectangle in zip(parts, treemap([size for _, size in parts], area), strict=True):
        text = name or "(other)"
        where = "" if text == layer.description else f" in {layer.description or layer.digest}"
        title = f"{text}: {format_size(size)}{where}"
        yield Box(_style(rectangle), text, format_size(size), layer.owner, title[:400])


def _style(rectangle: Rectangle) -> str:
    left, top = 100 * rectangle.x / _AREA.width, 100 * rectangle.y / _AREA.height
    width, height = 100 * rectangle.width / _AREA.width, 100 * rectangle.height / _AREA.height
    return f"left:{left:.3f}%;top:{top:.3f}%;width:{width:.3f}%;height:{height:.3f}%"
