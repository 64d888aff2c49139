from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.cli.diff import comparison_sections
from imagesync.core.names import Level
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Side
from imagesync.inventory.inventory import Entry, Inventory
from tests.commands import CommandLine

EXACT = Entry("numpy", "2.1.0", level=Level.EXACT, specifier="==2.1.0")
COMPATIBLE = Entry("alder", "1.4.3", level=Level.COMPATIBLE, specifier="~=1.4.3")


def side(*entries: Entry, name: str = "here") -> Side:
    return Side(name, {name: Inventory("linux-x86_64", entries)})


def test_table_shows_differences_that_count_first() -> None:
    changed = [replace(COMPATIBLE, version="9"), replace(EXACT, version="9")]
    comparison = compare(side(COMPATIBLE, EXACT), side(*changed, name="there"))
    section, summary_ = comparison_sections(comparison)
    assert [row.cells[0] for row in section.rows] == ["numpy", "alder"]
    assert section.title == "differs (2, of which 1 critical, exact, nearest or local code)"
    assert summary_.notes[0] == "2 packages: 2 differs"


def test_table_lists_members_that_gave_no_answer() -> None:
    answered = {"scheduler": Inventory("", (EXACT,))}
    comparison = compare(side(EXACT), Side("cluster", answered, {"tcp://a": "gone"}))
    assert [row.cells for row in comparison_sections(comparison)[1].rows] == [("tcp://a", "gone")]


def test_invalid_image_reference_is_refused(cli: CommandLine) -> None:
    finished = cli.run("diff", "Bad Image", "local", "--python", sys.executable)
    assert finished.returncode == 2
    assert "'Bad Image' isn't an image reference" in finished.stderr


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("absent.json", "isn't there"),
        ("a" * 300, "isn't an image reference"),
        ("empty", "holds no Python environment"),
        ("127.0.0.1:9/absent:1", "127.0.0.1:9"),
    ],
)
def test_sides_that_cannot_be_compared_exit_2(
    cli: CommandLine, work_dir: Path, left: str, message: str
) -> None:
    (work_dir / "empty").mkdir()
    command = cli.with_environ(DOCKER_HOST=f"unix://{work_dir}/absent.sock")
    finished = command.run("diff", left, "local", "--profile", "none")
    assert finished.returncode == 2, finished.stderr
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
