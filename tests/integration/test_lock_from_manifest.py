"""Manifests solved for the image, and a lock file beside its project, without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from imagesync.core.files import parse_toml
from tests.commands import CommandLine, Finished
from tests.conftest import MakeEnvironment
from tests.indexes import LocalIndex

_PROJECT = """\
[project]
name = "room"
version = "0.1.0"
description = "A test"
dependencies = ["lamp>=1"]
[project.optional-dependencies]
dim = ["shade"]
every = ["room[dim]"]
[dependency-groups]
night = ["dusk"]
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
"""
TARGET = ("--target-python", "3.11.2", "--target-glibc", "2.36", "--base", "debian:bookworm-slim")


@pytest.fixture
def here(cli: CommandLine) -> CommandLine:
    """Return the console script of somebody without an engine."""
    return cli.with_environ(DOCKER_HOST="tcp://127.0.0.1:1")


@pytest.fixture
def project(work_dir: Path) -> Path:
    (work_dir / "pyproject.toml").write_text(_PROJECT)
    (work_dir / "room.py").write_text("light = True\n")
    return work_dir


def refused_by(cli: CommandLine, status: int, *arguments: str) -> Finished:
    finished = cli.run(*arguments)
    assert finished.returncode == status, finished.stderr
    return finished


def test_environment_yml_is_solved_by_channels_then_indexes(
    here: CommandLine, index: LocalIndex, channel: Path, work_dir: Path
) -> None:
    index.add_wheel("lamp", "1.0", requires=["toolz"])
    index.add_wheel("lamp", "2.0")
    content = {
        "channels": [channel.as_uri()],
        "dependencies": ["python=3.11", "toolz", {"pip": ["lamp<2"]}],
    }
    (work_dir / "environment.yml").write_text(yaml.safe_dump(content))
    cli = here.with_environ(PIP_INDEX_URL=index.url)
    cli("lock", "--from", "environment.yml", "-o", "conda-lock.yml", *TARGET)
    found = yaml.safe_load((work_dir / "conda-lock.yml").read_text())["package"]
    versions = {(entry["manager"], entry["name"]): entry["version"] for entry in found}
    assert versions["pip", "lamp"] == "1.0"
    assert versions["conda", "python"].startswith("3.11.")
    assert ("conda", "toolz") in versions
    assert ("pip", "toolz") not in versions  # conda provides it
    refused = refused_by(cli, 2, "lock", "--from", "environment.yml", "--group", "night", *TARGET)
    assert "environment.yml has no group 'night'" in refused.stderr


def test_pyproject_is_solved_with_its_extras_and_groups(
    here: CommandLine, index: LocalIndex, project: Path
) -> None:
    for name in ("lamp", "shade", "dusk"):
        index.add_wheel(name, "1.5")
    cli = here.with_environ(UV_DEFAULT_INDEX=index.url, PIP_INDEX_URL=index.url)
    cli(
        "lock",
        "--from",
        "pyproject.toml",
        "--extra",
        "every",
        "--group",
        "night",
        "-o",
        "pylock.toml",
        *TARGET,
    )
    packages = parse_toml((project / "pylock.toml").read_text())["packages"]
    assert [package["name"] for package in packages] == ["dusk", "lamp", "room", "shade"]
    assert list((project / "wheels").glob("room-0.1.0-*.whl"))
    (project / "pixi.toml").write_text('[pypi-dependencies]\nroom = { path = ".", extras = ["every"] }\n')
    cli("lock", "--from", "pixi.toml", "-o", "pylock.toml", *TARGET)
    packages = parse_toml((project / "pylock.toml").read_text())["packages"]
    assert [package["name"] for package in packages] == ["lamp", "room", "shade"]


def test_indexes_of_a_project_are_asked_for_its_manifest_from_anywhere(
    here: CommandLine, index: LocalIndex, project: Path
) -> None:
    index.add_wheel("lamp", "1.5")
    (folder := project / "room").mkdir()
    text = _PROJECT.partition("[build-system]")[0]
    configured = f'[[tool.uv.index]]\nurl = "{index.url}"\ndefault = true\n'
    (folder / "pyproject.toml").write_text(text + configured)
    here("lock", "--from", folder / "pyproject.toml", "-o", "pylock.toml", *TARGET)
    assert index.url.removesuffix("/simple") in (project / "pylock.toml").read_text()


def test_manifest_that_is_not_there_is_no_lock_file(here: CommandLine) -> None:
    refused = refused_by(here, 2, "lock", "--from", "environment.yml")
    assert "environment.yml isn't a file, so it can't be solved" in refused.stderr


def test_manifest_for_another_python_names_a_base(here: CommandLine, project: Path) -> None:
    text = _PROJECT.replace("[project.opt", 'requires-python = ">=3.13"\n[project.opt')
    (project / "pyproject.toml").write_text(text)
    refused = refused_by(here, 1, "lock", "--from", "pyproject.toml", *TARGET)
    assert (
        "pyproject.toml is for Python >=3.13, and the base image debian:bookworm-slim has 3.11.2"
        in refused.stderr
    )
    assert "--base python:3.13-slim" in refused.stderr


def test_lock_file_and_notes_beside_a_project_are_no_difference(
    here: CommandLine, environment: MakeEnvironment, project: Path
) -> None:
    (project / "pyproject.toml").write_text(_PROJECT.replace('"lamp>=1"', ""))
    local = environment("flit_core", editable=[project])
    cli = here.with_environ(VIRTUAL_ENV=local.prefix, IMAGESYNC_PYTHON="base", IMAGESYNC_NO_ISOLATION="room")
    cli("lock", "-o", "conda-lock.yml", *TARGET)
    (project / "notes.ipynb").write_text("{}")
    compared = cli("diff", "local", "conda-lock.yml", "--format", "json").json()
    assert compared["groups"]["differs"] == 0
    assert "fits the environment" in cli("lock", "--check").stdout
    assert "Making wheels" not in cli("lock", "--check").stderr  # it is remembered
    (project / "room.py").write_text("light = False\n")
    changed = refused_by(cli, 1, "lock", "--check")
    assert "what its wheel is made from has changed" in changed.stdout
    assert refused_by(cli, 1, "diff", "local", "conda-lock.yml").stdout.startswith("differs (1")
