"""What the pages show in their console blocks, run: what needs no engine, and the tour of the README."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.conftest import MakeCondaEnvironment
from tests.console_blocks import ROOT, missing, shown
from tests.environments import make_environment
from tests.terminals import on_terminal

COLUMNS = 100
CODE = (
    "import os, sys; os.chdir({folder!r}); sys.argv = {argv!r}; from imagesync.cli.main import main; main()"
)
BUILD = "build --base debian:bookworm-slim"
RUN = "run --base debian:bookworm-slim weather-report"


def make_weather(folder: Path, python: Path | str, *, installer: str = "pip") -> Path:
    shutil.copytree(ROOT / "examples" / "weather", folder)
    # Compiling the bytecode of all packages takes longer than the rest.
    arguments = ["--no-compile"] if installer == "pip" else []
    make_environment(
        folder / ".venv", python=python, editable=[folder], installer=installer, arguments=arguments
    )
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weather(tmp_path_factory.mktemp("tour") / "weather", sys.executable)


def test_scan_is_as_the_tour_shows_it(project: Path, cli: CommandLine) -> None:
    finished = CommandLine(cli.environ, project)("scan")
    output = finished.stderr + finished.stdout
    assert missing("README.md", "scan", output, {str(project): "/home/me/weather"}) == []


def test_plan_is_as_the_tour_shows_it(project: Path) -> None:
    code = CODE.format(folder=str(project), argv=["imagesync", "plan"])
    _, output = on_terminal(code, columns=COLUMNS, environ={"NO_COLOR": "1", "HOME": os.environ["HOME"]})
    assert missing("README.md", "plan", output, {str(project): "/home/me/weather"}) == []


def test_counts_of_the_tour_fit_together() -> None:
    text = "\n".join(shown("README.md", "plan"))
    (total,) = set(re.findall(r"(\d+) packages", text))
    levels = re.findall(r"^  (?:critical|exact|nearest|compatible) +(\d+)", text, re.MULTILINE)
    assert sum(map(int, levels)) == int(total)
    # Python is in the plan; pip, which isn't, is left out.
    assert "1 left out" in text
    locking = re.search(r"Locking: (\d+) packages", "\n".join(shown("README.md", BUILD)))
    assert locking is not None
    # Python comes with the base image, and the project's wheel is made here.
    assert int(locking[1]) == int(total) - 2


@pytest.mark.engine
def test_build_and_run_are_as_the_tour_shows_them(
    image_cli: CommandLine, base_python: Path, root_image: str, repository: str, tmp_path: Path
) -> None:
    project = make_weather(tmp_path / "weather", base_python, installer="uv")
    cli = CommandLine(image_cli.environ, project)
    base = ["--base", root_image]  # that of the page is pulled
    built = cli("build", *base)
    names = {
        str(project): "/home/me/weather",
        built.reference: shown("README.md", BUILD)[-2],
        repository: "imagesync",
    }
    # An image of the same packages may be there, of the demo say, and with it their lock.
    locking = [line for line in shown("README.md", BUILD) if line.startswith("Locking")]
    assert missing("README.md", BUILD, built.stderr + built.stdout, names) in ([], locking)
    again = cli("build", *base)
    assert again.reference == built.reference
    assert len(again.stderr.splitlines()) == 1, "the environment, and nothing else"
    run = cli("run", *base, "weather-report")
    # Its last line names the base image's distribution.
    assert missing("README.md", RUN, run.stdout, names) in ([], shown("README.md", RUN)[-1:])


def test_scan_of_a_conda_environment_is_as_the_page_shows_it(
    cli: CommandLine, conda_environment: MakeCondaEnvironment, tmp_path: Path
) -> None:
    environment = conda_environment("python", "dask", "msgpack-python", "pip", pip=["cachetools==6.2.0"])
    scanned = cli.with_environ(**environment.activated)("scan").stdout
    lines = scanned.splitlines()
    for line in shown("conda.md", "scan"):
        first = line.split()[0]
        if first in {"conda", "package", "cpython", "from", "channels:"}:
            assert [each for each in lines if each.split()[:1] == [first]], line
    headers = [line.split() for line in lines if " package " in line]
    assert [line.split() for line in shown("conda.md", "scan") if " package " in line] == headers
    assert re.fullmatch(r"\d+ conda packages, 1 from pip", lines[-1])


def test_conflict_of_an_added_package_is_explained_as_the_page_shows_it(
    cli: CommandLine, tmp_path: Path
) -> None:
    versions = ["dask==2022.1.0", "distributed==2022.1.0", "pip"]
    environment = make_environment(tmp_path / "env", packages=versions, python=sys.executable)
    command = "lock --add-pip distributed==2022.5.1"
    base = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    failed = cli.with_environ(VIRTUAL_ENV=environment.prefix, IMAGESYNC_BASE=base).run(*command.split())
    assert failed.returncode == 1
    text = " ".join(failed.stderr.replace(str(environment.python), "/home/me/env/bin/python").split())
    assert " ".join(" ".join(shown("locking.md", command)).split()) in text
