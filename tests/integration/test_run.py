"""``imagesync run``: a command in the environment's image, with this process's streams and its exit code."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import BIN, CommandLine
from tests.engine_proxy import EngineProxy
from tests.environments import make_environment
from tests.indexes import LocalIndex


@pytest.fixture
def run_cli(image_cli: CommandLine, base_python: Path, tmp_path: Path) -> Iterator[CommandLine]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0")
        local = make_environment(
            tmp_path / "env", packages=["alder"], python=base_python, arguments=["--index-url", index.url]
        )
        yield image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url)


def start(cli: CommandLine, *command: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(BIN / "imagesync"), "--quiet", "run", "--", *command],
        env=dict(cli.environ),
        cwd=cli.cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def containers(engine: docker.DockerClient, cli: CommandLine) -> list[str]:
    image = cli.environ["IMAGESYNC_REPOSITORY"]
    return [
        container.id
        for found in engine.images.list(image)
        for container in engine.containers.list(all=True, ignore_removed=True, filters={"ancestor": found.id})
    ]


def test_run_builds_and_runs_and_leaves_nothing(run_cli: CommandLine, engine: docker.DockerClient) -> None:
    (run_cli.cwd / "here.txt").write_text("from outside")
    code = (
        "import alder, os; print(open('here.txt').read()); open('there.txt', 'w').write(os.environ['COLOUR'])"
    )
    first = run_cli("run", "--env", "COLOUR=green", "--", "python", "-c", code)
    assert first.stdout == "from outside\n"
    written = run_cli.cwd / "there.txt"
    assert written.read_text() == "green"
    assert written.stat().st_uid == os.getuid(), "what the command writes is the user's"
    assert containers(engine, run_cli) == []


def test_exit_code_and_both_streams(run_cli: CommandLine) -> None:
    ended = run_cli.run("--quiet", "run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "out\n", "err\n")
    assert run_cli.run("run", "--", "no-such-command").returncode == 127


def test_stdin_reaches_the_command_to_its_end(run_cli: CommandLine) -> None:
    data = os.urandom(1 << 20)
    with start(run_cli, "sha256sum") as process:
        stdout, stderr = process.communicate(data, timeout=300)
    import hashlib

    assert stdout.split() == [hashlib.sha256(data).hexdigest().encode(), b"-"], stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_command_and_container(
    run_cli: CommandLine, engine: docker.DockerClient, number: signal.Signals
) -> None:
    with start(run_cli, "sh", "-c", "echo started; exec sleep 300") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(number)
        assert process.wait(timeout=30) != 0
    assert containers(engine, run_cli) == []


def test_engine_that_is_gone_during_a_command_is_an_error(run_cli: CommandLine) -> None:
    run_cli("build")
    command = ("sh", "-c", "echo started; exec sleep 5")
    with EngineProxy() as proxy, start(run_cli.with_environ(DOCKER_HOST=proxy.url), *command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        proxy.stop()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.startswith(b"error: The container engine failed to "), stderr
    assert b"Traceback" not in stderr


def test_a_terminal_is_a_terminal_inside(run_cli: CommandLine, engine: docker.DockerClient) -> None:
    run_cli("build")
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    code = "import os, sys; print(sys.stdin.isatty(), input('name? ').upper())"
    process = subprocess.Popen(
        [str(BIN / "imagesync"), "--quiet", "run", "--", "python", "-c", code],
        env={**run_cli.environ, "TERM": "xterm"},
        cwd=run_cli.cwd,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    shown = b""
    while b"name? " not in shown:
        shown += os.read(leader, 4096)
    os.write(leader, b"ada\n")
    while b"True ADA" not in shown:
        shown += os.read(leader, 4096)
    assert process.wait(timeout=60) == 0
    assert termios.tcgetattr(follower) == before, "the terminal is as it was"
    os.close(follower)
    os.close(leader)
    assert containers(engine, run_cli) == []
