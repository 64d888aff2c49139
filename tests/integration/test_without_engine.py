"""Locks and contexts that are made without an engine, and built by one afterwards."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import docker
import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest, ContextFile, stream_files
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
from imagesync.image_layout import Label
from tests.commands import CommandLine
from tests.conftest import MakeCondaEnvironment, MakeEnvironment
from tests.environments import feature_version
from tests.integration.local_registry import LocalRegistry

pytestmark = pytest.mark.engine
NO_ENGINE = "tcp://127.0.0.1:1"
GLIBC = (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")


@pytest.fixture
def project_cli(image_cli: CommandLine, environment: MakeEnvironment, base_python: Path) -> CommandLine:
    local = environment("toolz==1.0.0", python=base_python)
    return image_cli.with_environ(VIRTUAL_ENV=local.prefix)


def without_engine(cli: CommandLine, **variables: str | Path) -> CommandLine:
    return cli.with_environ(DOCKER_HOST=NO_ENGINE, **variables)


def test_what_is_rendered_without_an_engine_is_built_by_one(
    project_cli: CommandLine, base_python: Path, engine: docker.DockerClient
) -> None:
    python = feature_version(base_python)
    # Nothing of this test's own is remembered: the store is shared.
    flags = ("--target-python", python, "--target-glibc", GLIBC)
    without_engine(project_cli)("render", "-o", "context", *flags)
    folder = project_cli.cwd / "context"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names.sort(key=lambda name: name != "Dockerfile")
    files = [
        ContextFile(
            name, folder / name, (folder / name).stat().st_size, (folder / name).stat().st_mode & 0o777
        )
        for name in names
    ]
    with Engine(find_endpoint(os.environ)) as ours:
        image = ours.build(
            stream_files(files),
            BuildRequest("default", "linux/amd64"),
            progress=SilentProgress(),
        )
        try:
            result = ours.run(RunRequest(image, ("python", "-c", "import toolz; print(toolz.__version__)")))
        finally:
            ours.discard(image)
    assert result.stdout == b"1.0.0\n"


def test_what_an_engine_said_once_is_remembered(project_cli: CommandLine, cache_dir: Path) -> None:
    cli = project_cli.with_environ(IMAGESYNC_CACHE_DIR=cache_dir)
    with_engine = cli("lock", "--format", "json")
    without = without_engine(cli)("lock", "--format", "json")
    assert without.json()["target"] == with_engine.json()["target"]
    assert "what an engine said of it before" in without.stderr


def test_flag_that_the_engine_contradicts_is_refused(project_cli: CommandLine) -> None:
    project_cli("lock")
    for command in (("lock",), ("render", "-o", "context")):
        refused = project_cli.run(*command, "--target-glibc", "2.17")
        assert refused.returncode == 2
        assert "(the engine), and --target-glibc says 2.17" in refused.stderr


def test_registry_tells_of_a_base_image_without_a_layer(
    project_cli: CommandLine,
    registry: LocalRegistry,
    engine: docker.DockerClient,
    cache_dir: Path,
    tmp_path: Path,
) -> None:
    python = project_cli("scan", "--format", "json").json()["python"]["version"]
    facts = {"version": python, "libc": "glibc 2.33", "executable": "/opt/python3"}
    recipe = f"FROM scratch\nLABEL {Label.BASE}={json.dumps(json.dumps(facts))}\nCMD nothing\n"
    image, _ = engine.images.build(fileobj=io.BytesIO(recipe.encode()), rm=True)
    digest = registry.push(engine, str(image.id), "team/described:1")
    cli = without_engine(
        project_cli,
        IMAGESYNC_CACHE_DIR=cache_dir,
        IMAGESYNC_BASE=f"{registry.host}/team/described:1",
        DOCKER_CONFIG=registry.docker_config(tmp_path / "docker"),
    )
    locked = cli("lock", "--format", "json")
    assert locked.json()["target"]["glibc"] == [2, 33]
    assert "glibc 2.33 (its registry)" in locked.stderr
    cli("render", "-o", "context")
    dockerfile = (cli.cwd / "context" / "Dockerfile").read_text()
    assert f"ARG BASE={registry.host}/team/described@{digest}\n" in dockerfile
    assert f'org.opencontainers.image.base.digest="{digest}"' in dockerfile
    assert "RUN /opt/python3 -m venv" in dockerfile


def test_conda_environment_needs_the_glibc_alone(
    cli: CommandLine, conda_environment: MakeCondaEnvironment
) -> None:
    local = conda_environment("python", "numpy")
    at = without_engine(
        cli, **local.activated, IMAGESYNC_BASE="127.0.0.1:1/team/base:1", IMAGESYNC_PROFILE="none"
    )
    refused = at.run("lock")
    assert refused.returncode == 1
    assert "--target-glibc" in refused.stderr
    target = at("lock", "--target-glibc", "2.36", "--format", "json").json()["target"]
    assert target["glibc"] == [2, 36]
    assert target["python_version"] == at("scan", "--format", "json").json()["python"]["version"]
