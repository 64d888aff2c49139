"""The reference pages have what the code has: settings, findings, errors, commands and their options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from itertools import product, takewhile
from pathlib import Path

import click
import pytest

from imagesync.cli.main import cli
from imagesync.core.text import format_size
from imagesync.settings.keys import KEYS, Key
from imagesync.settings.model import Settings
from tests.console_blocks import DASK_OPERATOR, RUN_BY, command_lines, indented_lines

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SOURCES = {path: ast.parse(path.read_text("utf-8")) for path in sorted((ROOT / "imagesync").rglob("*.py"))}


def rows(page: str) -> list[list[str]]:
    """Return the cells of all rows of tables of a page, without headers."""
    lines = re.findall(r"^\| (.*) \|$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def code_in(cell: str) -> list[str]:
    """Return what a cell has as code."""
    return re.findall(r"`([^`]+)`", cell)


def documented_settings() -> dict[str, tuple[str, str, str]]:
    """Return the columns of each key of docs/settings.md: type and default, variable, option."""
    found = {}
    for cells in rows("settings.md"):
        if len(cells) == 5 and (names := code_in(cells[0])):
            for number, name in enumerate(names):
                variables = code_in(cells[2])
                options = re.findall(r"--[a-z-]+", cells[3])
                found[name] = (cells[1], variables[number], options[number] if options else "")
    return found


def option_of(key: Key) -> str:
    """Return the option that sets a key, of ``build`` or ``lock``; empty if there is none."""
    context = click.Context(cli)
    commands = [cli.resolve_command(context, [name])[1] for name in ("build", "lock")]
    flags = {flag for command in commands if command for each in command.params for flag in each.opts}
    return key.flag if key.flag in flags else ""


def test_settings_page_has_the_keys_variables_and_options_of_the_code() -> None:
    documented = {
        name: (row[1], row[2].split()[0] if row[2] else "") for name, row in documented_settings().items()
    }
    assert documented == {key.name: (key.variable, option_of(key)) for key in KEYS}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_settings_page_has_the_default_of_the_code(key: Key) -> None:
    default = next(field.default for field in fields(Settings) if field.name == key.field)
    shown = code_in(documented_settings()[key.name][0])
    if isinstance(default, bool):
        assert shown[-1] == str(default).lower()
    elif isinstance(default, str) and default:
        assert shown[-1] == f'"{default}"'
    elif key.kind == "number":
        assert shown[-1] == str(default)
    elif isinstance(default, int):
        assert shown[-1] == f'"{format_size(default).replace(".0", "")}"'
    elif default == () and shown and shown[-1] != '"auto"':
        # The image's own values stand where a setting is empty.
        assert shown[-1] == "[]" or key.name == "cmd"


def findings() -> Iterator[tuple[str, set[str]]]:
    """Yield code and severities of each finding that the code makes with a constant code."""
    for tree in SOURCES.values():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Finding":
                named = {keyword.arg: keyword.value for keyword in call.keywords}
                severity, code = [
                    *call.args[:2],
                    *(named[key] for key in ("severity", "code") if key in named),
                ]
                if isinstance(code, ast.Constant):
                    attributes = (node for node in ast.walk(severity) if isinstance(node, ast.Attribute))
                    yield str(code.value), {node.attr.lower() for node in attributes} & SEVERITIES


SEVERITIES = {"error", "warning", "info"}


def documented_findings() -> dict[str, str]:
    """Return the severities of each finding of the pages, by code."""
    found: dict[str, str] = {}
    for page in ("findings.md", "levels.md", "code.md"):
        for cells in rows(page):
            if re.fullmatch(r"`[a-z0-9-]+`", cells[0]) and SEVERITIES & set(re.findall(r"\w+", cells[1])):
                code = cells[0].strip("`")
                found[code] = f"{found.get(code, '')} {cells[1]}"
    return found


@pytest.mark.parametrize(("code", "severities"), sorted(findings(), key=str))
def test_finding_is_documented_with_its_severities(code: str, severities: set[str]) -> None:
    assert severities <= set(re.findall(r"\w+", documented_findings()[code]))


def test_documented_findings_are_those_of_the_code() -> None:
    constants = {
        node.value
        for tree in SOURCES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(documented_findings()) <= constants


def messages() -> Iterator[str]:
    """Yield all texts of the code, with an ellipsis for each value in them, and each choice of words."""
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield from map("".join, product(*map(choices, node.values)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def choices(part: ast.expr) -> list[str]:
    """Return the texts that a part of an f-string may be."""
    if isinstance(part, ast.Constant):
        return [str(part.value)]
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.IfExp):
        words = [
            node.value for node in (part.value.body, part.value.orelse) if isinstance(node, ast.Constant)
        ]
        return [*map(str, words), "..."]
    return ["..."]


def documented_messages() -> list[str]:
    """Return each message of docs/errors.md; alternatives are separate."""
    cells = [row[0] for row in rows("errors.md") if row[0] not in ("it says", "what it says", "---")]
    return [message for cell in cells for message in re.split(r" / |; ", cell)]


TEXTS = list(messages())


@pytest.mark.parametrize("message", documented_messages())
def test_documented_error_is_one_of_the_code(message: str) -> None:
    # Versions and platforms stand for any.
    parts = re.split(r"\.\.\.|\b3\.[xy]\b|linux[-/]\w+", message)
    pattern = re.compile(".*".join(re.escape(part.strip(" ,.")) for part in parts), re.DOTALL)
    assert any(pattern.search(text) for text in TEXTS)


LINES = [(path.name, line) for path in PAGES for line in command_lines(path.name)]
INDENTED = [(path.name, line) for path in PAGES for line in indented_lines(path.name)]
TUTORIALS = [
    (page, line)
    for page in sorted(f"tutorials/{path.name}" for path in (ROOT / "docs" / "tutorials").glob("*.md"))
    for line in command_lines(page)
]


def test_every_command_line_is_run_by_a_test() -> None:
    assert set(LINES) == set(RUN_BY)
    for (_, line), test in RUN_BY.items():
        text = (ROOT / "tests" / "integration" / test).read_text("utf-8") if test else line
        assert line == DASK_OPERATOR or all(word in text for word in line.split()), f"{test}: {line}"


@pytest.mark.parametrize(("page", "line"), [*LINES, *INDENTED, *TUTORIALS])
def test_command_line_is_one_that_imagesync_takes(page: str, line: str) -> None:
    words = shlex.split(line.partition(" | ")[0].partition(" > ")[0])
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        # Options of a group come first, and none in the pages has a value.
        options = list(takewhile(lambda word: word.startswith("-"), words))
        if len(options) == len(words):
            break
        name, found, words = command.resolve_command(context, words[len(options) :])
        assert found is not None
        context = click.Context(found, parent=context, info_name=name, **found.context_settings)
        command = found
    command.parse_args(context, words)
