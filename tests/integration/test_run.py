"""``imagesync run``: a command in the environment's image, with this process's streams and its exit code."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import secrets
import signal
import subprocess
import termios
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from tests.commands import BIN, CommandLine
from tests.engine_proxy import EngineProxy
from tests.environments import make_environment
from tests.indexes import LocalIndex
from tests.integration.conftest import remove_images
from tests.processes import PATIENCE

pytestmark = pytest.mark.beside


@pytest.fixture(scope="module")
def variables(base_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the variables that make an environment active, and name the index that it is from."""
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0")
        folder = tmp_path_factory.mktemp("run")
        arguments = ["--index-url", index.url]
        made = make_environment(folder / "env", packages=["alder"], python=base_python, arguments=arguments)
        yield {"VIRTUAL_ENV": str(made.prefix), "PIP_INDEX_URL": index.url}


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient) -> Iterator[str]:
    """Return the name of an image that the first test needing it builds, and the others find."""
    name = f"imagesync-test-{secrets.token_hex(4)}"
    yield name
    remove_images(engine, name)


@pytest.fixture
def run_cli(image_cli: CommandLine, variables: dict[str, str], image: str) -> CommandLine:
    return image_cli.with_environ(**variables, IMAGESYNC_REPOSITORY=image)


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
        container["Id"]
        for found in engine.api.images(image)
        for container in engine.api.containers(all=True, filters={"ancestor": found["Id"]})
    ]


def test_run_builds_and_runs_and_leaves_nothing(
    image_cli: CommandLine, variables: dict[str, str], engine: docker.DockerClient
) -> None:
    run_cli = image_cli.with_environ(**variables)
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
    assert stdout.split() == [hashlib.sha256(data).hexdigest().encode(), b"-"], stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_command_and_container(
    run_cli: CommandLine, engine: docker.DockerClient, number: signal.Signals
) -> None:
    name = number.name.removeprefix("SIG")
    command = f"trap 'echo {name}; exit 3' {name}; echo started; sleep 300 & wait"
    with start(run_cli, "sh", "-c", command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(number)
        assert process.stdout.read() == name.encode() + b"\n"
        assert process.wait(timeout=PATIENCE) == 3, "the command ended in its own way"
    assert containers(engine, run_cli) == []


def test_engine_that_is_gone_during_a_command_is_an_error(
    run_cli: CommandLine, engine: docker.DockerClient
) -> None:
    command = ("sh", "-c", "echo started; exec sleep 5")
    with EngineProxy() as proxy, start(run_cli.with_environ(DOCKER_HOST=proxy.url), *command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        proxy.stop()
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert re.match(rb"error: The container engine at .* went away.*\nhint: Start it again", stderr), stderr
    assert b"Traceback" not in stderr
    for left in containers(engine, run_cli):
        engine.api.remove_container(left, force=True)


def test_options_after_the_command_belong_to_it_and_those_before_to_its_container(
    run_cli: CommandLine,
) -> None:
    code = "import sys; print(sys.argv[1:])"
    ran = run_cli("run", "python", "-c", code, "--strict", "-e", "A", "--", "--help")
    assert ran.stdout == "['--strict', '-e', 'A', '--', '--help']\n"
    folder = run_cli.cwd / "a:b"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "here.txt").write_text("outside\n")
    here = replace(run_cli, cwd=folder)
    shown = "id -u; pwd; cat /data/here.txt; df --output=size --block-size=1M /dev/shm | tail -1"
    mount = f"type=bind,source={folder}/data,target=/data"
    options = ("--mount", f"{mount},readonly", "--network", "none", "--user", "1234", "--shm-size", "64m")
    ran = here("run", "-i", *options, "sh", "-c", f"{shown}; ls /sys/class/net; ! touch /data/x 2>/dev/null")
    assert ran.stdout.split() == ["1234", "/workspace", "outside", "64", "lo"]
    ran = here("run", "--mount", mount, "sh", "-c", f"{shown}; touch made")
    assert ran.stdout.split() == [str(os.getuid()), "/workspace", "outside", "1024"]
    assert (folder / "made").stat().st_uid == os.getuid()
    assert sorted(path.name for path in folder.iterdir()) == ["data", "made"], "nothing else was left"


def test_terminal_that_is_not_there_is_a_wrong_use(run_cli: CommandLine) -> None:
    refused = run_cli.run("run", "-it", "sh")
    assert refused.returncode == 2
    assert "--tty needs a terminal" in refused.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
def test_folder_that_the_engine_does_not_see_stops_the_run(
    run_cli: CommandLine, engine: docker.DockerClient
) -> None:
    # As in a dev container with its host's socket: this process's folder is another one than the engine's.
    script = f"mount -t tmpfs none {run_cli.cwd} && cd {run_cli.cwd} && exec {BIN}/imagesync run touch lost"
    other = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=dict(run_cli.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 1
    assert f"The engine has another folder than this machine at {run_cli.cwd}" in other.stderr
    assert not (run_cli.cwd / "lost").exists()
    assert containers(engine, run_cli) == []


def test_a_terminal_is_a_terminal_inside(run_cli: CommandLine, engine: docker.DockerClient) -> None:
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
    assert process.wait(timeout=PATIENCE) == 0
    assert termios.tcgetattr(follower) == before, "the terminal is as it was"
    os.close(follower)
    os.close(leader)
    assert containers(engine, run_cli) == []
