"""The tour in the README, as far as it needs no engine, in an environment that pip made as it does there."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.environments import make_environment
from tests.terminals import on_terminal

ROOT = Path(__file__).parents[2]
COLUMNS = 100
CODE = (
    "import os, sys; os.chdir({folder!r}); sys.argv = {argv!r}; from imagesync.cli.main import main; main()"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tour") / "weather"
    shutil.copytree(ROOT / "examples" / "weather", folder)
    make_environment(folder / ".venv", python=sys.executable, editable=[folder], installer="pip")
    return folder


def shown(command: str) -> list[str]:
    """Return the lines that the README shows of a command of the tour."""
    text = (ROOT / "README.md").read_text("utf-8")
    block = text.partition(f"$ imagesync {command}\n")[2].partition("```")[0].partition("\n$ ")[0]
    return [line for line in block.splitlines() if line.strip() not in ("", "...")]


def shape(line: str, project: Path) -> str:
    """Return a line without what differs between machines and days: the folder, versions and numbers."""
    line = line.replace(str(project), "/home/me/weather")
    return " ".join(re.sub(r"\d+(?:\.\d+)*", "N", line).split())


def test_scan_is_as_the_tour_shows_it(project: Path, cli: CommandLine) -> None:
    finished = CommandLine(cli.environ, project)("scan")
    lines = [shape(line, project) for line in (finished.stderr + finished.stdout).splitlines()]
    assert [line for line in shown("scan") if shape(line, project) not in lines] == []


def test_plan_is_as_the_tour_shows_it(project: Path) -> None:
    code = CODE.format(folder=str(project), argv=["imagesync", "plan"])
    _, output = on_terminal(code, columns=COLUMNS, environ={"NO_COLOR": "1", "HOME": os.environ["HOME"]})
    lines = [shape(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line), project) for line in output.splitlines()]
    assert [line for line in shown("plan") if shape(line, project) not in lines] == []


def test_counts_of_the_tour_fit_together() -> None:
    text = "\n".join(shown("plan"))
    (total,) = set(re.findall(r"(\d+) packages", text))
    levels = re.findall(r"^  (?:critical|exact|nearest|compatible) +(\d+)", text, re.MULTILINE)
    assert sum(map(int, levels)) == int(total)
    # Python is in the plan; pip, which isn't, is left out.
    assert "1 left out" in text
    locking = re.search(r"Locking: (\d+) packages", "\n".join(shown("build --base debian:bookworm-slim")))
    assert locking is not None
    # Python comes with the base image, and the project's wheel is made here.
    assert int(locking[1]) == int(total) - 2
