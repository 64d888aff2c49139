"""A build that is interrupted ends at once, leaves nothing half done, and the next one works."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import make_environment
from tests.indexes import Fault, LocalIndex
from tests.processes import PATIENCE, sleeping, wait_until

pytestmark = [pytest.mark.alone, pytest.mark.usefixtures("new_packages")]

WHEEL = "alder-1.0.0-py3-none-any.whl"
# Nobody else's command has this argument, so its process can be told from all others.
SLEEP = "4321.75"


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0", files={"alder.py": b"#" * 2_000_000})
        yield index


@pytest.fixture
def build_cli(
    image_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path, cache_dir: Path
) -> CommandLine:
    local = make_environment(
        tmp_path / "env", packages=["alder"], python=base_python, arguments=["--index-url", index.url]
    )
    return image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url, IMAGESYNC_CACHE_DIR=cache_dir
    )


def interrupt(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal, and wait for the end of the process, which doesn't wait for what it has begun."""
    if process.poll() is not None:
        raise AssertionError(f"it had ended by itself\n{process.communicate()}")
    process.send_signal(number)
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_fetching(
    build_cli: CommandLine,
    index: LocalIndex,
    cache_dir: Path,
    engine: docker.DockerClient,
    repository: str,
    number: int,
    code: int,
) -> None:
    release = threading.Event()
    index.fault(WHEEL, Fault(hold=release, times=1))
    process = build_cli.start("build")
    assert index.half_sent.wait(timeout=PATIENCE)
    interrupt(process, number)
    stdout, stderr = process.communicate()
    release.set()
    assert process.returncode == code, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert list((cache_dir / "partial").glob("*")) == []
    assert engine.images.list(repository) == []
    assert build_cli("build").reference.startswith(repository)


def test_while_building(
    build_cli: CommandLine, tmp_path: Path, cache_dir: Path, engine: docker.DockerClient, repository: str
) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "Dockerfile.j2").write_text(
        '{% extends "imagesync/Dockerfile.j2" %}\n'
        f"{{% block after_packages %}}\nRUN sleep {SLEEP}\n{{% endblock %}}\n"
    )
    process = build_cli.start("build", "--templates", templates)
    wait_until(lambda: sleeping(SLEEP) or process.poll() is not None)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        # Docker before 23 is let finish its step, unless it is told twice.
        if line.startswith("Cancelling when this step has ended"):
            interrupt(process, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    wait_until(lambda: not sleeping(SLEEP))
    assert engine.images.list(repository) == []
    assert list((cache_dir / "partial").glob("*")) == []
    assert build_cli("build").reference.startswith(repository)


def test_killed_without_a_chance_to_clean_up(
    build_cli: CommandLine, index: LocalIndex, repository: str
) -> None:
    release = threading.Event()
    index.fault(WHEEL, Fault(hold=release, times=1))
    process = build_cli.start("build")
    assert index.half_sent.wait(timeout=PATIENCE)
    interrupt(process, signal.SIGKILL)
    process.communicate()
    release.set()
    # Its lock has gone with it, and what it had half written isn't taken for whole.
    assert build_cli("build").reference.startswith(repository)
    assert build_cli("run", "--", "python", "-c", "import alder").stdout == ""
