"""Editable projects that change after they were installed, all the way to the image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import make_environment

PYPROJECT = """
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
[project]
name = "orchard"
version = "{version}"
description = "Trees"
"""
SHOW = ["python", "-c", "import orchard, importlib.metadata as m; print(orchard.trees, m.version('orchard'))"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "orchard").mkdir(parents=True)
    (folder / "orchard/__init__.py").write_text("trees = 1\n")
    (folder / "pyproject.toml").write_text(PYPROJECT.format(version="1.0"))
    return folder


@pytest.fixture
def build_cli(image_cli: CommandLine, base_python: Path, project: Path, tmp_path: Path) -> CommandLine:
    local = make_environment(tmp_path / "env", python=base_python, editable=[project])
    return image_cli.with_environ(VIRTUAL_ENV=local.prefix)


def metadata(cli: CommandLine) -> dict[str, object]:
    return json.loads((cli.cwd / "metadata.json").read_text())


def test_an_edit_gives_another_image_and_taking_it_back_the_first(
    build_cli: CommandLine, project: Path, engine: docker.DockerClient
) -> None:
    first = build_cli("build").reference
    module = project / "orchard/__init__.py"
    module.write_text("trees = 2\n")
    second = build_cli("build").reference
    assert second != first
    assert engine.containers.run(second, SHOW, remove=True) == b"2 1.0\n"
    module.write_text("trees = 1\n")
    assert build_cli("build", "--metadata-file", "metadata.json").reference == first
    assert metadata(build_cli)["cached"] is True


def test_a_raised_version_and_a_new_requirement_are_in_the_image_and_are_said(
    build_cli: CommandLine, project: Path, engine: docker.DockerClient
) -> None:
    (project / "pyproject.toml").write_text(
        PYPROJECT.format(version="1.1") + 'dependencies = ["loose-leaf>=2"]\n'
    )
    said = "orchard 1.0: its pyproject.toml now requires loose-leaf>=2, which isn't installed here"
    (finding,) = build_cli("plan", "--format", "json").json()["findings"]
    assert (finding["code"], finding["package"]) == ("requirement-not-installed", "orchard")
    assert said in finding["message"]
    refused = build_cli.run("build", "--strict")
    assert refused.returncode == 1
    assert "orchard 1.0 would become 1.1" in refused.stderr

    built = build_cli("build", "--metadata-file", "metadata.json")
    assert said in built.stderr
    assert engine.containers.run(built.reference, SHOW, remove=True) == b"1 1.1\n"
    deviations = metadata(build_cli)["deviations"]
    orchard = [deviation for deviation in deviations if deviation["name"] == "orchard"]
    assert [(deviation["local"], deviation["locked"]) for deviation in orchard] == [("1.0", "1.1")]

    build_cli("build", "--metadata-file", "metadata.json")
    assert metadata(build_cli)["cached"] is True
    assert metadata(build_cli)["deviations"] == deviations


@pytest.mark.parametrize("command", ["plan", "build"])
def test_a_source_tree_that_is_gone_stops_a_build_and_a_plan_says_it(
    build_cli: CommandLine, project: Path, command: str
) -> None:
    project.rename(project.with_name("elsewhere"))
    finished = build_cli.run(command)
    output = finished.stdout + finished.stderr
    assert finished.returncode == (1 if command == "build" else 0)
    assert "orchard" in output
    assert str(project) in output.replace("\n", "")
    assert "Traceback" not in output


def test_a_project_whose_folder_is_gone_is_taken_as_it_is_installed(
    image_cli: CommandLine, base_python: Path, project: Path, tmp_path: Path, engine: docker.DockerClient
) -> None:
    local = make_environment(tmp_path / "env", python=base_python, packages=[str(project)])
    cli = image_cli.with_environ(VIRTUAL_ENV=local.prefix)
    shutil.rmtree(project)
    planned = cli("plan", "--format", "json").json()
    assert [finding["code"] for finding in planned["findings"]] == ["source-missing"]
    built = cli("build")
    assert "which is gone; the image gets the installed files" in built.stderr
    assert engine.containers.run(built.reference, SHOW, remove=True) == b"1 1.0\n"
