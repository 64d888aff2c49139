"""Configurations that are really run: by Compose, and as a stack of Docker Swarm."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest
import yaml
from distributed import Client

from tests.commands import CommandLine
from tests.console_blocks import DASK_OPERATOR
from tests.integration.conftest import remove_images
from tests.integration.dask_project import DaskProject
from tests.integration.local_registry import LocalRegistry, forget
from tests.integration.single_swarm import single_swarm
from tests.processes import wait_until

pytestmark = pytest.mark.engine
# Of the user's own package, which the image has and these tests haven't.
PICK = "__import__('elder').pick(7)"
COMPUTE = f"""
from distributed import Client
with Client("tcp://scheduler:8786", timeout=60) as client:
    client.wait_for_workers(2, timeout=90)
    print(client.submit(eval, {PICK!r}).result())
"""


@dataclass(frozen=True)
class Pushed:
    """The image of the project with Dask, in a registry.

    Parameters
    ----------
    cli
        The console script, with what it takes to reach it.
    reference, tag
        By digest; and the tag that it has, too.
    """

    cli: CommandLine
    reference: str
    tag: str


@pytest.fixture(scope="module")
def pushed(
    engine: docker.DockerClient,
    registry: LocalRegistry,
    dask_project: DaskProject,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pushed]:
    name = f"{registry.host}/team/elder"
    config = registry.docker_config(tmp_path_factory.mktemp("docker") / "docker")
    # No channel is asked for the image's Python, nor said to be silent.
    environ = {"IMAGESYNC_REPOSITORY": name, "DOCKER_CONFIG": config, "IMAGESYNC_PYTHON": "base"}
    cli = dask_project.cli.with_environ(**environ)
    # This is where it is built and pushed.
    written = cli("cluster", "config", "coiled", "--push")
    tag = dask_project.reference.rpartition(":")[2]
    reference = f"{name}@{registry.digest(f'team/elder:{tag}')}"
    assert yaml.safe_load(written.stdout)["coiled"]["container"] == reference
    yield Pushed(cli, reference, tag)
    remove_images(engine, name)


def write(pushed: Pushed, target: str, folder: Path) -> Path:
    path = folder / "dask.yaml"
    sizes = ["--workers", "2", "--memory-limit", "512MiB"]
    written = pushed.cli("cluster", "config", target, *sizes, "-o", path)
    # The engine knows under which digest it was pushed; nobody is asked.
    (line,) = written.stderr.splitlines()
    assert line.startswith("Using CPython")
    return path


def run(*command: str | Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def containers(engine: docker.DockerClient, label: str) -> list[docker.models.containers.Container]:
    return engine.containers.list(ignore_removed=True, filters={"label": label})


# The interpreter of these tests need not be the image's.
@pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
def test_compose_file_starts_a_cluster_of_the_pushed_image(
    engine: docker.DockerClient, pushed: Pushed, tmp_path: Path
) -> None:
    project = f"imagesync-test-{secrets.token_hex(4)}"
    compose = ["docker-compose", "--project-name", project, "--file", write(pushed, "compose", tmp_path)]
    environ = {**pushed.cli.environ, "DASK_PORT": "0", "DASK_DASHBOARD_PORT": "0"}
    run(*compose, "up", "--detach", environ=environ)
    try:
        address = run(*compose, "port", "scheduler", "8786", environ=environ).strip()
        assert address.startswith("127.0.0.1:")
        # Before, the engine's proxy accepts connections and drops them.
        labels = [f"com.docker.compose.project={project}", "com.docker.compose.service=scheduler"]
        (scheduler,) = engine.containers.list(filters={"label": labels})
        wait_until(lambda: b"Scheduler at:" in scheduler.logs())
        with Client(f"tcp://{address}", timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=90)
            assert client.submit(eval, PICK).result() == 7
            workers = client.scheduler_info()["workers"].values()
            assert {worker["memory_limit"] for worker in workers} == {512 * 2**20}
        started = containers(engine, f"com.docker.compose.project={project}")
        assert {container.attrs["Config"]["Image"] for container in started} == {pushed.reference}
    finally:
        run(*compose, "down", "--timeout", "1", environ=environ)


def test_swarm_runs_the_stack(engine: docker.DockerClient, pushed: Pushed, tmp_path: Path) -> None:
    path, environ = write(pushed, "swarm-stack", tmp_path), dict(pushed.cli.environ)
    stack = f"imagesync-test-{secrets.token_hex(4)}"
    with single_swarm(engine):
        run("docker", "stack", "deploy", "--with-registry-auth", "-c", path, stack, environ=environ)
        client = ["docker", "run", "--rm", "--network", f"{stack}_dask", pushed.reference]
        assert run(*client, "python", "-c", COMPUTE, environ=environ) == "7\n"
        services = engine.services.list(filters={"label": f"com.docker.stack.namespace={stack}"})
        specs = [service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"] for service in services]
        assert [spec["Image"] for spec in specs] == [pushed.reference] * 2
        # Nobody outside of its network reaches the scheduler.
        assert all("Ports" not in service.attrs["Endpoint"] for service in services)
        run("docker", "stack", "rm", stack, environ=environ)


def test_image_that_is_in_no_registry(dask_project: DaskProject, registry: LocalRegistry) -> None:
    refused = dask_project.cli.run("cluster", "config", "kubernetes")
    assert refused.returncode == 2
    assert "names no registry" in refused.stderr
    assert "--push --repository" in refused.stderr
    local = dask_project.cli("cluster", "config", "compose")
    assert "works with this engine alone" in local.stderr
    assert yaml.safe_load(local.stdout)["x-dask"]["image"] == dask_project.reference
    for target in ("compose", "swarm-stack"):
        named = dask_project.cli("cluster", "config", target, "--image", dask_project.reference)
        assert "works with this engine alone" in named.stderr
        assert yaml.safe_load(named.stdout)["x-dask"]["image"] == dask_project.reference


def test_image_that_was_not_pushed(
    engine: docker.DockerClient, dask_project: DaskProject, registry: LocalRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/unpushed"
    config = registry.docker_config(tmp_path / "docker")
    cli = dask_project.cli.with_environ(IMAGESYNC_REPOSITORY=name, DOCKER_CONFIG=config)
    try:
        refused = cli.run("cluster", "config", "kubernetes")
        assert refused.returncode == 2
        assert "isn't in its registry" in refused.stderr
        assert "--push" in refused.stderr
    finally:
        forget(engine, f"{name}:{dask_project.reference.rpartition(':')[2]}")


def test_image_that_a_user_names(pushed: Pushed, registry: LocalRegistry) -> None:
    by_tag = f"{pushed.reference.partition('@')[0]}:latest"
    missing = pushed.cli.run("cluster", "config", "coiled", "--image", by_tag)
    assert missing.returncode == 1
    assert f"has no image {by_tag}" in missing.stderr
    assert registry.put_list("team/elder:latest", of="team/elder:" + pushed.tag)
    found = pushed.cli("cluster", "config", "coiled", "--image", by_tag)
    name, digest = pushed.reference.partition("@")[0], registry.digest("team/elder:latest")
    assert yaml.safe_load(found.stdout)["coiled"]["container"] == f"{name}@{digest}"


PUSHED_LINES = [
    DASK_OPERATOR,
    "cluster config dask-gateway -o values.yaml",
    "cluster config compose -o compose.yaml",
    "cluster config swarm-stack --push -o dask.yaml",
    "cluster config ecs --push -o tasks.json",
    "build --push",
]


@pytest.mark.parametrize("line", PUSHED_LINES)
def test_command_line_of_the_pages_runs(pushed: Pushed, tmp_path: Path, line: str) -> None:
    cli = replace(pushed.cli, cwd=tmp_path)
    done = cli(*line.split())
    if line == "build --push":
        assert done.reference.rpartition(":")[2] == pushed.tag
        digest = pushed.reference.rpartition("@")[2]
        assert f"@{digest}" in done.stderr, "where it is in the registry"
    else:
        written = tmp_path / line.rpartition(" ")[2]
        assert pushed.reference.rpartition(":")[2] in written.read_text("utf-8")


def test_file_is_updated_as_the_page_shows_it(pushed: Pushed, tmp_path: Path) -> None:
    line = "cluster config kubernetes --update deploy/dask.yaml"
    cli = replace(pushed.cli, cwd=tmp_path)
    path = tmp_path / "deploy" / "dask.yaml"
    path.parent.mkdir()
    cli("cluster", "config", "kubernetes", "-o", path)
    text = path.read_text("utf-8")
    before = f"{pushed.reference.partition('@')[0]}:before"
    path.write_text(text.replace(pushed.reference, before), "utf-8")
    assert cli(*line.split()).stdout == f"{pushed.reference}\n"
    assert path.read_text("utf-8") == text
