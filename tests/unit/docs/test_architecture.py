from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "CONTRIBUTING.md",
    DOCS / "architecture.md",
    DOCS / "development.md",
    DOCS / "glossary.md",
    *sorted((DOCS / "decisions").glob("*.md")),
]
_CODE = re.compile(r"`([^`\n]+)`")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"\.?[\w.-]+(/[\w.-]+)*/?")
_CLASS = re.compile(r"(?:[A-Z][a-z0-9]+){1,}")
# Files of the user.
_ELSEWHERE = {"imagesync.toml", "conda-lock.yml"}


def code(page: Path) -> set[str]:
    return set(_CODE.findall(_FENCED.sub("", page.read_text("utf-8"))))


def defined_names() -> set[str]:
    names = set()
    for path in (ROOT / "imagesync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_path_in_backticks_exists(page: Path) -> None:
    paths = {
        text
        for text in code(page)
        if _PATH.fullmatch(text)
        and (
            text.endswith((".py", ".sh", ".md", ".toml", ".yml"))
            or text.startswith(("imagesync/", "tests/", "docs/", "scripts/"))
        )
    }
    roots = (ROOT, ROOT / "imagesync", ROOT / "imagesync" / "cli", DOCS)
    missing = {
        text
        for text in paths
        if not any((root / text).exists() for root in roots) and not any((ROOT / "tests").rglob(text))
    }
    assert missing - _ELSEWHERE == set()


def test_every_class_in_backticks_is_defined() -> None:
    named = {text for text in code(DOCS / "architecture.md") if _CLASS.fullmatch(text)}
    assert {"Environment", "Plan", "Lock", "Image", "Session"} <= named
    assert named - defined_names() - {"Settings"} == set()


def is_defined(reference: str) -> bool:
    """Return True if a module of imagesync has the object of that dotted name."""
    module, _, name = reference.rpartition(".")
    attributes = [name]
    while not (ROOT / module.replace(".", "/")).with_suffix(".py").exists():
        if (ROOT / module.replace(".", "/") / "__init__.py").exists():
            break
        module, _, name = module.rpartition(".")
        attributes.insert(0, name)
    if not module:
        return False
    found = importlib.import_module(module)
    for name in attributes:
        if not hasattr(found, name):
            return name in getattr(found, "__annotations__", {})  # a field of an instance
        found = getattr(found, name)
    return True


def test_every_cross_reference_of_a_docstring_leads_to_an_object() -> None:
    text = "".join(path.read_text("utf-8") for path in (ROOT / "imagesync").rglob("*.py"))
    references = set(re.findall(r":(?:attr|class|data|exc|func|meth):`~?(imagesync\.[\w.]+)`", text))
    assert "imagesync.scan.conda.shared_files.shared_files" in references
    assert [each for each in sorted(references) if not is_defined(each)] == []


def test_every_room_is_described() -> None:
    rows = re.findall(r"^\| `([\w.]+)/?` \|", (DOCS / "architecture.md").read_text("utf-8"), re.MULTILINE)
    found = {
        path.name
        for path in (ROOT / "imagesync").iterdir()
        if not path.name.startswith(("_", "py.", "settings_"))
    }
    assert {row.rstrip("/") for row in rows} == found


def test_picture_of_the_rooms_is_drawn_from_the_imports_as_they_are() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "draw_rooms.py")]
    drawn = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert (DOCS / "rooms.svg").read_text("utf-8") == drawn, (
        "run: python scripts/draw_rooms.py >docs/rooms.svg"
    )


def test_architecture_is_one_page() -> None:
    assert len((DOCS / "architecture.md").read_text("utf-8").splitlines()) <= 120
