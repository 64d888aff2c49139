"""Values and progress in notebooks: short text, escaped HTML, one output for a whole command."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

import imagesync
from imagesync.core.names import Level, canonical_name
from imagesync.core.platforms import LINUX_AMD64
from imagesync.image.built_image import Image
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Side
from imagesync.inventory.inventory import Entry, Inventory
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage

SCRIPT = "<script>alert(1)</script>"


class Structure(HTMLParser):
    """Collects tags and text, and insists that all tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Return an environment with a package whose metadata are HTML."""
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    folder = site / "evil-1.dist-info"
    folder.mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: evil\nVersion: {SCRIPT}\nSummary: {SCRIPT}\nHome-page: {SCRIPT}\n"
    )
    (folder / "direct_url.json").write_text(
        f'{{"url": "file:///{SCRIPT}", "dir_info": {{"editable": true}}}}'
    )
    return tmp_path / "env"


def displayed(value: object) -> Structure:
    """Return the HTML of *value*, of which nothing but our own markup is a tag; its text is one line."""
    text = repr(value)
    assert "\n" not in text
    assert len(text) < 200
    html = value._repr_html_()
    structure = Structure(html)
    known = {"div", "style", "strong", "details", "summary", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(structure.tags) <= known
    return structure


def test_html_in_the_metadata_of_a_package_is_escaped(hostile: Path) -> None:
    session = imagesync.open_session(prefix=hostile, quiet=True, profile="none")
    environment = displayed(session.scan())
    assert SCRIPT in environment.text
    plan = displayed(session.plan())
    assert SCRIPT in plan.text


def test_html_in_a_lock_and_an_image_is_escaped() -> None:
    deviation = Deviation("evil", SCRIPT, f"{SCRIPT}2", Level.NEAREST, SCRIPT)
    artifact = Artifact(f"{SCRIPT}.whl", "https://x.example", "sha256:0", 1)
    package = LockedPackage(canonical_name("evil"), SCRIPT, artifact)
    lock = Lock(Target(LINUX_AMD64, "3.11.2", (2, 36)), (package,), deviations=(deviation,))
    assert displayed(lock).text.count(SCRIPT) == 5
    repacked = {"name": "evil", "version": SCRIPT, "content": "", "reason": SCRIPT}
    image = Image("x:1", "sha256:1", "sha256:2", "sha256:3", False, None, (deviation.to_dict(),), (repacked,))
    assert displayed(image).text.count(SCRIPT) == 5


def test_html_in_a_comparison_is_escaped() -> None:
    def side(name: str, version: str) -> Side:
        entry = Entry("evil", version, level=Level.EXACT)
        return Side(name, {name: Inventory("", (entry,))}, {SCRIPT: SCRIPT})

    comparison = compare(side("here", SCRIPT), side(SCRIPT, "1"))
    assert displayed(comparison).text.count(SCRIPT) > 4


def test_this_environment_is_one_line_and_has_a_table_of_its_packages() -> None:
    environment = imagesync.scan(quiet=True)
    assert re.fullmatch(r"<Environment .*: cpython [\d.]+, \d+ packages.*>", repr(environment))
    assert displayed(environment).tags.count("tr") > len(environment.packages)


class Kernel:
    """A Jupyter kernel, and what a notebook shows of each cell: the last content of each output."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, code: str) -> list[str]:
        """Return the outputs of a cell, in the order in which they began: HTML, else text."""
        outputs: dict[str, str] = {}

        def take(message: dict[str, Any]) -> None:
            content, kind = message["content"], message["header"]["msg_type"]
            if kind in {"display_data", "update_display_data"}:
                outputs[content["transient"].get("display_id", str(len(outputs)))] = content["data"][
                    "text/html"
                ]
            elif kind == "execute_result":
                outputs["result"] = content["data"].get("text/html", content["data"]["text/plain"])
            elif kind == "stream":
                outputs[content["name"]] = outputs.get(content["name"], "") + content["text"]
            elif kind == "error":
                raise AssertionError("\n".join(content["traceback"]))

        self._client.execute_interactive(code, output_hook=take, timeout=60)
        return list(outputs.values())


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    if os.environ.get("IMAGESYNC_TEST_PLATFORM") == "win32":
        pytest.skip("not on Windows as tests/host_platform.py has it: a kernel's start needs the real one")
    manager, client = start_new_kernel()
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_cell_has_one_output_for_all_steps_and_lines(kernel: Kernel) -> None:
    (output,) = kernel.run(
        """
from imagesync.core.progress import Severity
from imagesync.core.terminal import make_progress
progress = make_progress()
progress.line("Using <CPython>")
for label in ("Fetching", "Building"):
    with progress.task(label, total=2, unit="packages") as task:
        task.advance(2)
        progress.line("[1/4] FROM <base>")
        progress.line("slow", Severity.WARNING)
progress.line("differs: numpy")
"""
    )
    structure = Structure(output)
    assert "Using <CPython>" in structure.text
    assert "2 steps in" in structure.text
    assert "Fetching2 packages" in structure.text
    assert "[1/4] FROM <base>Fetching" in structure.text, "information about a step is among the steps"
    assert structure.text.endswith("Using <CPython>warning: slowwarning: slowdiffers: numpy")
    assert "progress" not in structure.tags


def test_bar_is_shown_while_a_task_runs_and_another_cell_has_its_own(kernel: Kernel) -> None:
    (output,) = kernel.run(
        """
progress = make_progress()
running = progress.task("Building", total=4, unit="steps")
task = running.__enter__()
task.advance(1)
task.describe("<step>")
progress.draw()
"""
    )
    structure = Structure(output)
    assert structure.tags.count("progress") == 1
    assert "Building <step>" in structure.text
    assert "1/4 steps" in structure.text
    (output,) = kernel.run("_ = running.__exit__(None, None, None)")
    assert "progress" not in Structure(output).tags
    (output,) = kernel.run("progress.line('next')")
    assert Structure(output).text.endswith("next")
    assert "Building" not in Structure(output).text


def test_failed_step_is_marked(kernel: Kernel) -> None:
    output, _ = kernel.run(
        """
try:
    with progress.task("Building", total=None, unit="steps"):
        raise ValueError("no")
except ValueError:
    print("raised")
"""
    )
    assert "Buildingfailed" in Structure(output).text


def test_quiet_session_and_a_value_at_the_end_of_a_cell(kernel: Kernel) -> None:
    (output,) = kernel.run("import imagesync; imagesync.scan(quiet=True)")
    assert output.startswith('<div class="imagesync">')
