"""What the pages show in their console blocks, run with one project and its image."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.console_blocks import missing, shown
from tests.integration.dask_project import DaskProject
from tests.integration.test_cluster_docker import belongings

pytestmark = pytest.mark.engine

UP = "cluster up --name nightly --workers 4 --nthreads 1 --memory-limit 2GiB"
DIFF = "diff local project:9f2ce0b1d4a87c35"


@pytest.fixture
def cli(dask_project: DaskProject, tmp_path: Path) -> CommandLine:
    return replace(dask_project.cli, cwd=tmp_path)


def test_lock_file_is_made_built_from_and_checked(cli: CommandLine, dask_project: DaskProject) -> None:
    cli("lock", "-o", "conda-lock.yml")
    assert cli("build", "--locked").reference == dask_project.reference
    assert cli("lock", "--check").returncode == 0
    with dask_project.edited(5):
        assert cli.run("lock", "--check").returncode == 1
        assert cli("build", "--locked").reference == dask_project.reference


def test_environment_is_named_before_a_build(cli: CommandLine, dask_project: DaskProject) -> None:
    (line,) = shown("environments.md", "build")
    (dask_project.folder / ".venv").symlink_to(dask_project.environment.prefix)
    environ = {key: value for key, value in cli.environ.items() if key != "VIRTUAL_ENV"}
    finished = CommandLine(environ, dask_project.folder)("build")
    (dask_project.folder / ".venv").unlink()
    folder = {str(dask_project.folder): "/home/me/weather"}
    assert missing("environments.md", "build", finished.stderr, folder) == [], line


def test_difference_is_shown(cli: CommandLine, dask_project: DaskProject) -> None:
    with dask_project.edited(5):
        output = cli.run("diff", "local", dask_project.reference).stdout
    names = {dask_project.reference: DIFF.rsplit(maxsplit=1)[-1], "elder": "project"}
    # The page's environment has another difference, too, and nobody knows its digests.
    lines = [re.sub(r"\b[0-9a-f]{12}\b", "N", line) for line in output.splitlines()]
    left_out = missing("compare.md", DIFF, "\n".join(lines), names)
    assert [line.split()[0] for line in left_out] == ["project", "alder"]
    assert any(line.split()[:1] == ["elder"] and line.endswith("the code differs") for line in lines)


def test_cluster_is_started(cli: CommandLine, engine: docker.DockerClient, tmp_path: Path) -> None:
    name = f"nightly-{os.getpid()}"
    cli = cli.with_environ(XDG_STATE_HOME=tmp_path / "state")
    try:
        up = cli(*UP.replace("nightly", name).replace("2GiB", "400MiB").split())
        names = {name: "nightly", str(tmp_path / "state"): "/home/me/.local/state"}
        left_out = missing("clusters.md", UP, up.stdout, names)
        assert [line.split()[0] for line in left_out] == ["image"]
    finally:
        cli.run("cluster", "down", name)
    assert belongings(engine, name) == []


def test_commands_run_in_the_image(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import elder, sys\nprint(elder.pick(2), sys.argv[1:])\n")
    assert cli(*["run", "python", "train.py", "--strict"]).stdout.endswith(" ['--strict']\n")
    assert cli(*["run", "bash"]).stdout == ""
