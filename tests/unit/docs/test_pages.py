from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from imagesync.cli.main import cli
from scripts.semantic_breaks import semantic_breaks

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_CONTEXT = click.Context(cli)
COMMANDS = {name: cli.resolve_command(_CONTEXT, [name])[1] for name in cli.list_commands(_CONTEXT)}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings get on the common forges."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text("utf-8")):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nobody_is_sent_to_an_index_that_has_no_release(page: Path) -> None:
    # Drop this once there is one.
    assert re.findall(r"(?:pip|pipx|tool) install ['\"]?imagesync", page.read_text("utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_sentence_has_a_line_of_its_own(page: Path) -> None:
    # scripts/semantic_breaks.py mends it.
    text = page.read_text("utf-8")
    assert text == semantic_breaks(text)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("One. Two\nis\nlonger.\n", "One.\nTwo is longer.\n"),
        ("Such as (e.g. `a. b`) ... here. conda ends.\n", "Such as (e.g. `a. b`) ... here.\nconda ends.\n"),
        ("- [1. One](one.md). Two.\n", "- [1. One](one.md).\n  Two.\n"),
        ("1. One. Two.\n2. Three.\n", "1. One.\n   Two.\n2. Three.\n"),
        ("**Bold.** Words.\n\n    code. Here.\n", "**Bold.** Words.\n\n    code. Here.\n"),
        ("# A? B\n| a. b |\n```\nc. d\n```\n", "# A? B\n| a. b |\n```\nc. d\n```\n"),
    ],
    ids=["joined and broken", "abbreviations and code", "links", "items", "bold and code", "verbatim"],
)
def test_lines_are_broken_between_sentences_alone(text: str, broken: str) -> None:
    assert semantic_breaks(text) == broken


def test_names_of_the_package_exist_once_it_is_imported() -> None:
    # Those of api.md are modules' own, which Sphinx imports.
    pages = [page for page in PAGES if page.parent.name != "decisions" and page.name != "api.md"]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    imports = set(re.findall(r"^ *(from imagesync[\w.]* import [\w, ]+)$", text, re.MULTILINE))
    imports |= set(re.findall(r"`(from imagesync[\w.]* import \w+)`", text))
    names = set(
        re.findall(
            r"(?<![\w./-])imagesync(?:\.[A-Za-z_]\w*)+(?![\w/-])", re.sub("from imagesync.*", "", text)
        )
    )
    names = {name for name in names if name.rpartition(".")[2] not in {"json", "toml"}}
    assert {"imagesync.errors.MismatchError", "imagesync.scan"} <= names
    # Each in the order of a newcomer's: the names first, before imports make modules into attributes.
    program = "\n".join(["import imagesync", *sorted(names), *sorted(imports)])
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_page_is_in_the_index() -> None:
    linked = set(_LINK.findall((ROOT / "docs" / "index.md").read_text("utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= linked


def test_page_of_commands_names_every_command_and_no_other() -> None:
    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    named = set(
        re.findall(r"imagesync (?:--\w+ )?([a-z]+)\b", "\n".join(re.findall(r"`(imagesync [^`]*)`", text)))
    )
    assert named == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_a_word_of_help(name: str) -> None:
    command = COMMANDS[name]
    assert command is not None
    assert command.help
    nested = command.commands.values() if isinstance(command, click.Group) else (command,)
    silent = [p.name for c in nested for p in c.params if isinstance(p, click.Option) and not p.help]
    assert silent == []
