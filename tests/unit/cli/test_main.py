from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.resources import files

import click
import pytest
from click.testing import CliRunner

from imagesync.cli.main import HEADINGS, SUMMARIES, cli
from imagesync.cli.options import Invocation

LISTING = """
import json, sys
from imagesync.cli.main import cli
cli(["--help"], standalone_mode=False)
print(json.dumps([name for name in sys.modules if name.startswith("imagesync.")]), file=sys.stderr)
"""


def command(name: str) -> click.Command:
    found = getattr(import_module(f"imagesync.cli.{name}"), name)
    assert isinstance(found, click.Command)
    return found


@pytest.mark.parametrize("name", SUMMARIES)
def test_summary_in_the_list_of_commands_is_that_of_the_command(name: str) -> None:
    for limit in (20, 45, 60, 200):
        assert cli.commands[name].get_short_help_str(limit) == command(name).get_short_help_str(limit)


def test_every_command_in_a_module_of_its_name_is_listed() -> None:
    names = (path.name.removesuffix(".py") for path in files("imagesync.cli").iterdir())
    modules = {name: import_module(f"imagesync.cli.{name}") for name in names if name.isidentifier()}
    assert {n for n, m in modules.items() if isinstance(getattr(m, n, None), click.Command)} == set(SUMMARIES)


@pytest.mark.parametrize("name", SUMMARIES)
def test_name_of_a_command_is_resolved_to_the_command_itself(name: str) -> None:
    assert cli.resolve_command(click.Context(cli), [name, "--help"]) == (name, command(name), ["--help"])


def test_help_lists_every_command_without_importing_any() -> None:
    done = subprocess.run([sys.executable, "-c", LISTING], check=True, capture_output=True, text=True)
    for name, summary in SUMMARIES.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", done.stdout, re.MULTILINE)
    assert [line[:-1] for line in done.stdout.splitlines() if line in {f"{h}:" for h in HEADINGS}] == list(
        HEADINGS
    )
    imported = set(json.loads(done.stderr))
    assert imported.isdisjoint({"imagesync.session", *(f"imagesync.cli.{name}" for name in SUMMARIES)})


def test_every_command_is_in_one_group_of_the_help() -> None:
    assert sorted(name for names in HEADINGS.values() for name in names) == sorted(SUMMARIES)


@pytest.mark.parametrize("arguments", [[], ["cluster"], ["cache"]])
def test_help_cuts_no_summary(arguments: list[str]) -> None:
    for columns in (60, 80):
        shown = CliRunner().invoke(cli, [*arguments, "--help"], terminal_width=columns)
        assert "..." not in shown.output.partition("Options:")[2]
        assert max(map(len, shown.output.splitlines())) <= columns


def test_misspelt_command_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(click.UsageError, match="No such command 'biuld'") as caught:
        cli(["biuld"], standalone_mode=False)
    assert "build" in caught.value.format_message()


def test_duration_is_reported_at_the_end_of_a_command_with_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    invocation = Invocation()
    invocation.report_duration()
    invocation.progress.line("a note")
    invocation.report_duration()
    assert "Finished" not in capsys.readouterr().err
    with invocation.progress.task("Locking", total=None, unit="steps"):
        pass
    invocation.report_duration()
    assert re.search(r"^Finished in \d\.\d+ s$", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: a pipe can't be asked there")
@pytest.mark.parametrize("is_gone", [True, False])
def test_broken_pipe_counts_as_closed_output_only_where_stdout_is_broken(is_gone: bool) -> None:
    reading, writing = os.pipe()
    code = "import sys; from imagesync.cli.main import _reader_is_gone; sys.exit(_reader_is_gone())"
    if is_gone:
        os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, check=False)
    os.close(writing)
    assert done.returncode == is_gone
