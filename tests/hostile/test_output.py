"""Output that can't be written ends a command in a sentence."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import BIN
from tests.hostile.servers import World

# Each command that prints something, of an image that is there. "REFERENCE" stands for it.
COMMANDS = (
    "scan --format json",
    "plan",
    *(
        pytest.param(command, marks=pytest.mark.campaign)
        for command in (
            "scan",
            "plan --format json",
            "lock",
            "lock --format json",
            "lock -o pylock.toml --format json",
            "build",
            "build --push",
            "build --output oci:layout:1 --metadata-file facts.json",
            "push REFERENCE",
            "inspect REFERENCE",
            "inspect REFERENCE --format json",
            "verify REFERENCE",
            "diff local REFERENCE",
            "diff local REFERENCE --format json",
            "render -o context --target-python 3.11.2 --target-glibc 2.36",
            "cluster config kubernetes --image REFERENCE",
            "doctor",
            "doctor --format json",
            "init",
            "cache info",
            "cache info --format json",
            "cache prune --older-than 1",
            "completion zsh",
            "--version",
            "build --help",
        )
    ),
)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only on Linux")
@pytest.mark.parametrize("command", COMMANDS)
def test_full_output_is_a_sentence(world: World, tried: Callable[[str], None], command: str) -> None:
    cli = world.machine(store=world.pushed, repository="known")
    arguments = shlex.split(command.replace("REFERENCE", world.reference))
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [BIN / "imagesync", *arguments],
            env=dict(cli.environ),
            cwd=cli.cwd,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert finished.returncode == 1, finished
    assert "Traceback" not in finished.stderr
    assert finished.stderr.count("error: ") == 1, finished
    assert "No space left on device" in finished.stderr
    tried("output: full")
    shutil.rmtree(cli.cwd)
