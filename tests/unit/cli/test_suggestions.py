from __future__ import annotations

import click
import pytest

from imagesync.cli.main import cli as command_line
from imagesync.cli.suggestions import hint_for
from tests.commands import CommandLine


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("build .", "--code DIR"),
        ("build -f Dockerfile", "--templates DIR"),
        ("build --dry-run", "imagesync plan"),
        ("build -n", "imagesync plan"),
        ("pull", "imagesync build --repository"),
        ("images", "docker images imagesync"),
        ("ls", "imagesync cluster ls"),
        ("export", "imagesync lock --export"),
        ("freeze", "imagesync lock --export requirements"),
        ("run --rm python", "the container is removed"),
        ("run --name demo python", "docker run OPTIONS"),
        ("lock --dry-run", "imagesync plan"),
        ("plan -v", "imagesync -v COMMAND"),
        ("lock --quiet", "imagesync --quiet COMMAND"),
    ],
)
def test_guess_of_docker_and_uv_users_gets_a_hint(command: str, hint: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        command_line(command.split(), standalone_mode=False)
    assert hint in str(hint_for(caught.value))


@pytest.mark.parametrize("command", ["build --no-such-option", "frobnicate", "cluster push", "scan ."])
def test_other_mistakes_get_no_hint(command: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        command_line(command.split(), standalone_mode=False)
    assert hint_for(caught.value) is None


def test_hint_is_the_last_line_on_stderr(cli: CommandLine) -> None:
    finished = cli.run("pull")
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("hint: imagesync build --repository")
