"""Output that can't be written ends a command in a sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import CommandLine


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only on Linux")
@pytest.mark.parametrize("command", ["scan", "plan"])
def test_full_output_is_a_sentence(cli: CommandLine, tried: Callable[[str], None], command: str) -> None:
    tried("output: full")
    prefix = cli.cwd / "env"
    (prefix / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [str(cli.command[0]), command, "--prefix", str(prefix), "--format", "json"],
            env=dict(cli.environ),
            cwd=cli.cwd,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert "No space left on device" in finished.stderr
