"""``imagesync.SwarmCluster`` on a real swarm."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from distributed import Client

import imagesync
from imagesync.cluster.resources import find_resources
from imagesync.engine.run_options import SHM_SIZE
from imagesync.errors import ClusterError, UsageError
from tests.commands import CommandLine
from tests.integration.dask_project import DaskProject
from tests.integration.local_registry import LocalRegistry
from tests.integration.single_swarm import single_swarm, swarm_lock
from tests.processes import wait_until

pytestmark = [
    pytest.mark.engine,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]

Make = Callable[..., imagesync.SwarmCluster]


def test_an_engine_that_manages_no_swarm(dask_project: DaskProject) -> None:
    # The first test: the others' swarm is kept until the last of them.
    with swarm_lock(), pytest.raises(ClusterError, match="manages no swarm"):
        imagesync.SwarmCluster(dask_project.reference)


@pytest.fixture(scope="module")
def swarm(engine: docker.DockerClient) -> Iterator[docker.DockerClient]:
    """Return the engine while it manages a swarm of its own."""
    with single_swarm(engine):
        yield engine


@pytest.fixture
def make(dask_project: DaskProject, swarm: docker.DockerClient) -> Iterator[Make]:
    """Return ``SwarmCluster`` in the project's image; what a test leaves fails it."""
    made: list[imagesync.SwarmCluster] = []

    def cluster(image: str = dask_project.reference, **options: Any) -> imagesync.SwarmCluster:
        options = {"n_workers": 1, "nthreads": 1, "memory_limit": "400MiB", "check": False, **options}
        made.append(imagesync.SwarmCluster(image, **options))
        return made[-1]

    yield cluster
    for started in made:
        started.close()
        assert len(find_resources(swarm.api, started.name)) == 0


def tasks_of(swarm: docker.DockerClient, cluster: imagesync.SwarmCluster, part: str) -> list[Any]:
    tasks: list[Any] = swarm.api.tasks(filters={"service": f"imagesync-{cluster.name}-{part}"})
    return tasks


def test_a_computation_that_survives_a_worker_and_scaling(make: Make, swarm: docker.DockerClient) -> None:
    def pick(number: int) -> int:
        import time

        import elder

        time.sleep(0.1)
        return int(elder.pick(number))

    cluster = make(n_workers=2, cpus=0.5, environment={"COLOUR": "green"}, reserve_memory="100MB")
    with Client(cluster) as client:
        cluster.wait_for_workers(2, timeout=60)
        futures = client.map(pick, range(40))
        (killed,) = swarm.containers.list(filters={"name": f"imagesync-{cluster.name}-worker-0"})
        killed.kill()
        assert client.gather(futures) == list(range(40))
        shared_memory = client.submit(os.statvfs, "/dev/shm").result()
        assert shared_memory.f_blocks * shared_memory.f_frsize == SHM_SIZE
        cluster.wait_for_workers(2, timeout=60)
        assert cluster.scheduler_address.startswith("tls://")
        assert cluster.dashboard_link == "", "it isn't encrypted, so it isn't published"
        cluster.scale(3)
        cluster.wait_for_workers(3, timeout=60)
        kept = client.scatter([1, 2, 3])
        cluster.scale(1)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1)
        assert client.gather(kept) == [1, 2, 3]
        assert "Registered to" in cluster.logs()["worker-0"]
    spec = swarm.services.get(f"imagesync-{cluster.name}-worker-0").attrs["Spec"]
    resources = spec["TaskTemplate"]["Resources"]
    assert resources["Limits"] == {"NanoCPUs": 500_000_000, "MemoryBytes": 400 * 2**20}
    assert resources["Reservations"] == {"MemoryBytes": 100_000_000}
    assert "COLOUR=green" in spec["TaskTemplate"]["ContainerSpec"]["Env"]
    (secret,) = spec["TaskTemplate"]["ContainerSpec"]["Secrets"]
    assert secret["SecretName"] == f"imagesync-{cluster.name}-imagesync.json"
    services = swarm.api.services(filters={"label": f"dev.imagesync.cluster={cluster.name}"})
    assert "PRIVATE KEY" not in json.dumps([services, tasks_of(swarm, cluster, "worker-0")])


def test_nodes_get_the_image_by_digest(
    make: Make,
    swarm: docker.DockerClient,
    registry: LocalRegistry,
    dask_project: DaskProject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(tmp_path / "docker")))
    digest = registry.push(swarm, dask_project.reference, "team/swarm:1")
    cluster = make(f"{registry.host}/team/swarm:1")
    assert cluster.image == f"{registry.host}/team/swarm@{digest}"
    with Client(cluster) as client:
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
    (task,) = tasks_of(swarm, cluster, "worker-0")
    assert task["Spec"]["ContainerSpec"]["Image"] == cluster.image


def test_worker_waits_for_a_node_that_meets_its_constraints(
    make: Make, swarm: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagesync.cluster.supervised_cluster.JOIN_TIMEOUT", 1.0)
    cluster = make(constraints=["node.labels.disk==ssd"])
    wait_until(lambda: bool(tasks_of(swarm, cluster, "worker-0")))
    (task,) = tasks_of(swarm, cluster, "worker-0")
    assert task["Status"]["State"] == "pending"
    (node,) = swarm.nodes.list()
    node.update({**node.attrs["Spec"], "Labels": {"disk": "ssd"}})
    cluster.wait_for_workers(1, timeout=60)


def test_ports_of_ipv4_and_ipv6_that_differ(make: Make, swarm: docker.DockerClient, root_image: str) -> None:
    container = swarm.containers.run(root_image, ["sleep", "60"], detach=True, ports={"80/tcp": None})
    try:
        container.reload()
        last = max(int(port["HostPort"]) for port in container.ports["80/tcp"])
        # An engine before 23 goes on to another port for IPv4 alone.
        with socket.create_server(("127.0.0.1", last + 1)):
            cluster = make()
            cluster.wait_for_workers(1, timeout=60)
    finally:
        container.remove(force=True)


SCRIPT = """
import sys
import imagesync
cluster = imagesync.SwarmCluster(sys.argv[1], n_workers=1, nthreads=1, check=False)
cluster.wait_for_workers(1)
print(cluster.name, flush=True)
sys.stdin.read()
"""


def test_a_killed_client_takes_everything_with_it(
    swarm: docker.DockerClient, dask_project: DaskProject
) -> None:
    command = [sys.executable, "-c", SCRIPT, dask_project.reference]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert len(find_resources(swarm.api, name)) == 4
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: len(find_resources(swarm.api, name)) == 0)


def test_swarm_cluster_is_listed_and_removed_by_commands(make: Make, cli: CommandLine) -> None:
    cluster = make()
    listed = {entry["name"]: entry for entry in cli("cluster", "ls", "--format", "json").json()}
    assert listed[cluster.name]["workers"] == 1
    assert cli("cluster", "down", cluster.name).stdout == f"{cluster.name}: removed\n"


def test_what_cannot_be_had_is_said_and_leaves_nothing(make: Make, root_image: str) -> None:
    with pytest.raises(UsageError, match="counts GPUs"):
        make(gpus="all")
    with pytest.raises(UsageError, match="services of a swarm don't take"):
        make(groups={"big": {"docker": {"cap_add": ["SYS_PTRACE"]}}})
    with pytest.raises(ClusterError, match=r"(?s)ended before it listened.*python"):
        make(root_image, name="barren")
