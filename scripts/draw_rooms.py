"""Draw the rooms of the package and their imports: ``python scripts/draw_rooms.py >docs/rooms.svg``.

Layers come from import-linter's contract in pyproject.toml, arrows from the imports themselves; an arrow that
follows from others (a room imports another one, which imports a third) is left out.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "imagesync"
WIDTH, ROW, BOX, LEFT, LABEL = 900, 46, 30, 20, 78
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .small { font-size: 11px; fill: #59636e }
rect { fill: #f6f8fa; stroke: #818b98 } path { fill: none; stroke: #818b98; opacity: .7 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 }
  rect { fill: #151b23; stroke: #656c76 } path { stroke: #656c76 }
}
"""


def layers() -> list[list[str]]:
    """Return the rooms, row by row from the top."""
    toml: Any = import_module("tomllib" if _has_tomllib() else "tomli")
    document = toml.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = document["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "layers")
    return [[room.strip() for room in row.split("|")] for row in contract["layers"]]


def imports() -> dict[str, set[str]]:
    """Return for each room the other rooms that its modules import, lazily or for type checkers, too."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        found[room] |= {other for other in _imported_rooms(path) if other != room}
    return dict(found)


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return *graph*, which has no circles, without the arrows that follow from others."""

    def reach(room: str) -> set[str]:
        return {room}.union(*(reach(other) for other in graph.get(room, ())))

    return {
        room: {other for other in others if not any(other in reach(third) for third in others - {other})}
        for room, others in graph.items()
    }


def draw() -> str:
    """Return the picture as SVG."""
    rows = layers()
    place = {
        room: (_left(index), 10 + number * ROW)
        for number, row in enumerate(rows)
        for index, room in enumerate(row)
    }
    parts = [
        _arrow(place, room, other)
        for room, others in sorted(reduced(imports()).items())
        for other in sorted(others)
    ]
    for room, (x, y) in place.items():
        summary, modules = _describe(room)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{_width(room)}" height="{BOX}" rx="4"/>'
            f'<text x="{x + 10}" y="{y + 20}">{room}</text>'
        )
        row = next(row for row in rows if room in row)
        offset = y + 19 if len(row) == 1 else y + 12 + 15 * row.index(room)
        label = escape(summary if len(row) == 1 else f"{room}: {summary}")
        parts.append(f'<text class="small" x="330" y="{offset}">{label} ({modules})</text>')
    height = 10 + len(rows) * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}"'
        f' role="img" aria-label="The rooms of imagesync: each imports only rooms below it">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module]
                if node.module != "imagesync"
                else [f"imagesync.{name.name}" for name in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("imagesync."))


def _describe(room: str) -> tuple[str, str]:
    folder = PACKAGE / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    count = len([path for path in folder.rglob("*.py") if path.name != "__init__.py"]) or 1
    return _sentence(text), f"{count} module{'s' * (count != 1)}"


def _sentence(text: str) -> str:
    first = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".").replace("``", "")
    return first if len(first) <= LABEL else first[: LABEL - 1].rsplit(" ", 1)[0] + " …"


def _arrow(place: Mapping[str, tuple[int, int]], room: str, other: str) -> str:
    (x1, y1), (x2, y2) = place[room], place[other]
    x1, x2, y1 = x1 + _width(room) // 2, x2 + _width(other) // 2, y1 + BOX
    bend = 0 if y2 - y1 < ROW else 60 + (y2 - y1) // 12
    return f'<path d="M{x1},{y1} C{x1 + bend},{y1 + 10} {x2 + bend},{y2 - 10} {x2},{y2}"/>'


def _left(index: int) -> int:
    return LEFT + index * 150


def _width(room: str) -> int:
    return 20 + 8 * len(room)


def _has_tomllib() -> bool:
    from importlib.util import find_spec

    return find_spec("tomllib") is not None


if __name__ == "__main__":
    print(draw(), end="")
