"""A Ray cluster of containers of an environment with Ray: head, two workers, and a client outside of them."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest
import yaml

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.integration.dask_project import remove
from tests.processes import wait_until

pytestmark = pytest.mark.engine
# The least that Ray takes, for a machine that runs other tests too.
SMALL = "--num-cpus 1 --object-store-memory 80000000 --disable-usage-stats --block"
# On a busy machine Ray's proxy was seen to take the client's server for dead before it had started.
BUSY = ("ZombieProcess", "Starting Ray client server failed")
CLIENT = """
import sys, warnings
# A warning would be about versions.
warnings.simplefilter("error")
import ray

ray.init(sys.argv[1], logging_level="ERROR")

@ray.remote
def where(number):
    import platform, sys
    return number * number, platform.python_version(), sys.prefix, ray.get_runtime_context().get_node_id()

@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self, number):
        self.count += number
        return self.count

nodes = [node for node in ray.nodes() if node["Alive"]]
spread = where.options(scheduling_strategy="SPREAD")
found = ray.get([spread.remote(number) for number in range(6)])
counter = Counter.remote()
for number in range(4):
    last = counter.add.remote(number)
print(len(nodes), sum(each[0] for each in found), {each[1:3] for each in found}, ray.get(last))
"""


@pytest.fixture
def ray_environment(base_python: Path, tmp_path: Path) -> LocalEnvironment:
    return make_environment(tmp_path / "env", packages=["ray[client]"], python=base_python)


@pytest.fixture
def nodes(engine: docker.DockerClient) -> Iterator[ExitStack]:
    with ExitStack() as started:
        yield started


def test_ray_cluster_of_the_image_computes_for_a_client_of_the_environment(
    image_cli: CommandLine, ray_environment: LocalEnvironment, engine: docker.DockerClient, nodes: ExitStack
) -> None:
    cli = image_cli.with_environ(VIRTUAL_ENV=ray_environment.prefix, IMAGESYNC_PYTHON="base")
    image = cli("build").reference
    written = yaml.safe_load(cli("cluster", "config", "ray", "--image", f"{image}@sha256:{'0' * 64}").stdout)
    options = written["docker"]["run_options"]
    # Versions, and Python's patch level, which Ray compares on connecting.
    compared = cli("diff", "local", image, "--format", "json").json()
    assert compared["matches"], compared

    network = engine.networks.create(f"imagesync-test-{secrets.token_hex(4)}")
    nodes.callback(network.remove)

    def start(name: str, command: str, **ports: object) -> docker.models.containers.Container:
        container = engine.containers.run(
            image,
            # As Ray's launcher and KubeRay start a node.
            ["bash", "-lc", f"ray start {command} {SMALL}"],
            network=network.name,
            name=f"{network.name}-{name}",
            init="--init" in options,
            shm_size="200m",
            detach=True,
            **ports,
        )
        nodes.callback(remove, container)
        return container

    head = start(
        "head",
        "--head --port 6379 --ray-client-server-port 10001 --include-dashboard false",
        ports={"10001/tcp": ("127.0.0.1", None)},
    )
    for number in range(2):
        start(f"worker-{number}", f"--address {network.name}-head:6379")
    address = f"ray://127.0.0.1:{engine.api.port(head.id, 10001)[0]['HostPort']}"

    def joined() -> bool:
        status: str = head.exec_run(["bash", "-lc", "ray status"]).output.decode()
        return status.count("1 node_") == 3

    wait_until(joined)
    results: list[str] = []

    def computed() -> bool:
        done = subprocess.run(
            [ray_environment.python, "-c", CLIENT, address], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or any(reason in done.stderr for reason in BUSY), done.stderr
        results.extend(done.stdout.splitlines())
        return done.returncode == 0

    wait_until(computed)
    python = ray_environment.run("-c", "import platform; print(platform.python_version())").strip()
    assert results == [f"3 55 {{('{python}', '/opt/env')}} 6"]
