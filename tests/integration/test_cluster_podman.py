"""Clusters on Podman: from a script, from the command line, and after a client that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from distributed import Client

import imagesync
from imagesync.cluster.connection import load_connection
from imagesync.cluster.detached import stop_cluster
from imagesync.session import Session
from tests.integration.dask_project import DaskProject
from tests.integration.engines import podman_endpoint
from tests.integration.test_cluster_docker import SCRIPT, belongings
from tests.processes import wait_until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]
SMALL = {"n_workers": 1, "nthreads": 1, "memory_limit": 0}


@pytest.fixture(scope="module")
def podman(
    engine: docker.DockerClient, dask_project: DaskProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[docker.DockerClient]:
    """Return a client of Podman, which has the project's image and is the engine of this module's tests."""
    folder = tmp_path_factory.mktemp("p")
    archive = folder / "image.tar"
    subprocess.run(["docker", "save", "--output", archive, dask_project.reference], check=True)
    with pytest.MonkeyPatch.context() as patch:
        for endpoint in podman_endpoint(folder):
            patch.setenv("DOCKER_HOST", endpoint.url)
            with closing(docker.from_env(timeout=120)) as client:
                with archive.open("rb") as file:
                    client.images.load(file)
                archive.unlink()
                yield client


def test_cluster_computes_and_is_compared_and_synchronised(
    podman: docker.DockerClient, dask_project: DaskProject, session: Session
) -> None:
    def pick() -> int:
        import elder

        return int(elder.pick(1))

    with (
        imagesync.DockerCluster(dask_project.reference, check=False, session=session, **SMALL) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(pick).result(timeout=60) == 1
        assert cluster.check().matches
        with dask_project.edited(5):
            assert cluster.sync().sent == ("elder",)
            assert client.submit(pick, pure=False).result(timeout=60) == 5
        assert set(cluster.logs(tail=1)) == {"scheduler", "worker-0"}
    assert belongings(podman, cluster.name) == []


def test_killed_client_and_reaper_end_the_containers(
    podman: docker.DockerClient, dask_project: DaskProject
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, dask_project.reference], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        name, reaper = json.loads(process.stdout.readline())
        assert len(belongings(podman, name)) == 4
        os.kill(reaper, signal.SIGKILL)
        process.kill()
    wait_until(lambda: belongings(podman, name) == [f"imagesync-{name}"])
    assert stop_cluster(name) == 1, "the network"


def test_cluster_from_the_command_line(
    podman: docker.DockerClient, dask_project: DaskProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    cli = dask_project.cli.with_environ(XDG_STATE_HOME=tmp_path, DOCKER_HOST=os.environ["DOCKER_HOST"])
    name = f"podman-{os.getpid()}"
    options = ["--image", dask_project.reference, "--nthreads", "1", "--memory-limit", "0"]
    try:
        assert cli("cluster", "up", "--name", name, "-n", "1", *options, "--format", "json").json()
        with imagesync.connect(name, set_as_default=False) as client:
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        assert cli("cluster", "scale", name, "2").stdout == f"{name}: 2 workers, 1 before\n"
        (listed,) = cli("cluster", "ls", "--format", "json").json()
        assert (listed["workers"], listed["leftover"]) == (2, False)
        assert load_connection(name).address == f"tls://{listed['scheduler']}"
    finally:
        cli("cluster", "down", name)
    assert belongings(podman, name) == []
