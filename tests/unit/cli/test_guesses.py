"""What the command line refuses, before anything is done, and what it says instead."""

from __future__ import annotations

import sys

import click
import pytest

from imagesync.cli.guesses import right_word
from imagesync.cli.main import cli as command_line
from tests.commands import CommandLine
from tests.conftest import MakeEnvironment


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("build .", "--code DIR"),
        ("build -f Dockerfile", "--templates DIR"),
        ("build --dry-run", "imagesync plan"),
        ("build -n", "imagesync plan"),
        ("push", "imagesync build --push"),
        ("images", "docker images imagesync"),
        ("ls", "imagesync cluster ls"),
        ("export", "imagesync lock --export"),
        ("freeze", "imagesync lock --export requirements"),
        ("run -it -- bash", "where there is a terminal"),
        ("run --rm python", "the container is removed"),
        ("run -v .:/data python", "/workspace"),
        ("lock --dry-run", "imagesync plan"),
        ("-v", "--version"),
    ],
)
def test_guess_of_docker_and_uv_users_gets_the_right_word(command: str, word: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        command_line(command.split(), standalone_mode=False)
    assert word in str(right_word(caught.value))


@pytest.mark.parametrize("command", ["build --no-such-option", "frobnicate", "cluster push", "scan ."])
def test_other_mistakes_get_none(command: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        command_line(command.split(), standalone_mode=False)
    assert right_word(caught.value) is None


def test_right_word_is_a_line_of_its_own(cli: CommandLine) -> None:
    finished = cli.run("push")
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("hint: imagesync build --push")


@pytest.mark.parametrize("reference", ["Bad Tag", "Upper:1", "name@sha256:" + "0" * 64, "a:b:c", ""])
def test_name_that_cannot_be_one_is_refused_before_the_build(
    cli: CommandLine, environment: MakeEnvironment, reference: str
) -> None:
    # No engine is there: nothing was begun.
    at = cli.with_environ(VIRTUAL_ENV=environment().prefix, DOCKER_HOST="tcp://127.0.0.1:1")
    finished = at.run("build", "--tag", "good:1", "--tag", reference)
    assert finished.returncode == 2
    assert f"error: tag: {reference!r} can't be an image's name." in finished.stderr


def test_image_that_cannot_be_one_is_refused(cli: CommandLine) -> None:
    finished = cli.run("diff", "local", "Bad Image", "--python", sys.executable)
    assert finished.returncode == 2
    assert "'Bad Image' isn't an image reference" in finished.stderr
