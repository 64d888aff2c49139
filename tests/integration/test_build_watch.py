"""``imagesync build --watch``: a reference after each change; errors don't end it, Ctrl-C does."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex
from tests.integration.editable_project import make_project, pyproject


class Lines:
    """The lines of a stream, to be waited for."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def next(self) -> str:
        return self._lines.get(timeout=120)

    def until(self, word: str) -> str:
        """Return the next line that has *word* in it."""
        seen = []
        while word not in (line := self.next()):
            assert line, f"it ended without {word!r} after {seen}"
            seen.append(line)
        return line


class Watching:
    """A command that watches."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.references = Lines(process.stdout)
        self.said = Lines(process.stderr)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0")
        yield index


@pytest.fixture
def local(
    request: pytest.FixtureRequest, base_python: Path, tmp_path: Path, project: Path
) -> LocalEnvironment:
    if hasattr(request, "param"):
        other: LocalEnvironment = request.getfixturevalue(request.param)
        return other
    return make_environment(tmp_path / "env", python=base_python, editable=[project])


@pytest.fixture
def watching(image_cli: CommandLine, index: LocalIndex, local: LocalEnvironment) -> Iterator[Watching]:
    cli = image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_EXTRA_INDEX_URL=index.url)
    with cli.start("build", "--watch") as process:
        yield Watching(process)
        process.kill()


def shown(engine: docker.DockerClient, reference: str, code: str) -> str:
    return engine.containers.run(reference, ["python", "-c", code], remove=True).decode()


def test_each_edit_gives_a_reference(
    watching: Watching, project: Path, engine: docker.DockerClient, repository: str
) -> None:
    first = watching.references.next()
    assert first.startswith(f"{repository}:")
    module = project / "elder.py"
    module.write_text("berries = 2\n")
    second = watching.references.next()
    assert second != first
    assert shown(engine, second, "import elder; print(elder.berries)") == "2\n"
    # As editors do: a new file in the place of the old one.
    (project / "elder.py.new").write_text("berries = 1\n")
    (project / "elder.py.new").replace(module)
    assert watching.references.next() == first
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(timeout=60) == 0
    assert watching.references.next() == ""


def test_error_is_said_and_the_next_change_mends_it(watching: Watching, project: Path) -> None:
    first = watching.references.next()
    (project / "pyproject.toml").write_text(pyproject().replace("flit_core.buildapi", "flit_core.nowhere"))
    assert "elder" in watching.said.until("error: ")
    (project / "pyproject.toml").write_text(pyproject())
    (project / "elder.py").write_text("berries = 3\n")
    assert watching.references.next() != first
    assert watching.process.poll() is None


def test_installation_and_settings_give_a_reference(
    watching: Watching,
    local: LocalEnvironment,
    index: LocalIndex,
    image_cli: CommandLine,
    engine: docker.DockerClient,
) -> None:
    first = watching.references.next()
    local.install("--extra-index-url", index.url, "alder")
    second = watching.references.next()
    assert second != first
    assert shown(engine, second, "import alder; print(alder.__version__)") == "1.0.0\n"
    (image_cli.cwd / "imagesync.toml").write_text('ignore = ["alder"]\n')
    assert watching.references.next() == first


@pytest.fixture
def hazel(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    """Return an environment with a package that the index doesn't have any more."""
    gone = index.add_wheel("hazel", "1.0.0", files={"hazel/nuts.py": b"count = 1\n"})
    arguments = ["--extra-index-url", index.url]
    packages = ["alder", "hazel"]
    made = make_environment(tmp_path / "hazel", python=base_python, packages=packages, arguments=arguments)
    index.remove_file(gone)
    return made


@pytest.mark.parametrize("local", [pytest.param("hazel", id="hazel")], indirect=True)
def test_edit_of_installed_files_that_the_image_has_gives_a_reference(
    watching: Watching, local: LocalEnvironment, engine: docker.DockerClient
) -> None:
    watching.references.next()
    # Of this one the image has the index's own file.
    (local.site_packages / "alder.py").write_text("changed = True\n")
    (local.site_packages / "hazel/nuts.py").write_text("count = 2\n")
    second = watching.references.next()
    assert shown(engine, second, "from hazel import nuts; print(nuts.count)") == "2\n"


@pytest.mark.alone
def test_interrupted_while_it_builds(
    image_cli: CommandLine, local: LocalEnvironment, engine: docker.DockerClient, repository: str
) -> None:
    with image_cli.with_environ(VIRTUAL_ENV=local.prefix).start("build", "--watch") as process:
        Watching(process).said.until("Building the image")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert engine.images.list(repository) == []


def test_building_anew_each_time_makes_no_sense(image_cli: CommandLine) -> None:
    finished = image_cli.run("build", "--watch", "--no-cache")
    assert finished.returncode == 2
    assert "--no-cache" in finished.stderr
