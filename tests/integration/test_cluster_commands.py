"""``imagesync cluster``: a cluster that outlives the command, and what the commands say of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from distributed import Client

import imagesync
from imagesync.cluster.connection import load_connection
from imagesync.errors import ClusterError, MismatchError
from tests.commands import CommandLine
from tests.environments import make_environment
from tests.integration.conftest import ROOT
from tests.integration.dask_project import DaskProject
from tests.integration.test_cluster_docker import belongings
from tests.processes import wait_until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]

NAME = f"commands-{os.getpid()}"
SMALL = ("--nthreads", "1", "--memory-limit", "400MiB")


@pytest.fixture
def cluster_cli(
    dask_project: DaskProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: docker.DockerClient
) -> Iterator[CommandLine]:
    """Return the console script with a state folder of this test's own; this process has it, too."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    cli = dask_project.cli.with_environ(XDG_STATE_HOME=tmp_path / "state")
    yield cli
    cli.run("cluster", "down", NAME)
    assert belongings(engine, NAME) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network namespace")
def test_up_from_another_network_than_the_engines_is_an_error(cluster_cli: CommandLine) -> None:
    # As in a container with the host's socket: the loopback isn't the engine's.
    elsewhere = replace(cluster_cli, command=("unshare", "--net", *cluster_cli.command))
    refused = elsewhere.run("cluster", "up", "--name", NAME, "--workers", "0", *SMALL)
    assert refused.returncode == 1
    assert "on the engine's machine, which this process can't reach: " in refused.stderr
    assert "Traceback" not in refused.stderr


def test_up_use_scale_logs_down(cluster_cli: CommandLine, engine: docker.DockerClient) -> None:
    # Without --image it is the image of the environment, which is there already.
    up = cluster_cli("cluster", "up", "--name", NAME, "--workers", "1", *SMALL)
    assert f"client = imagesync.connect('{NAME}')" in up.stdout
    assert "Starting" in up.stderr
    path = load_connection(NAME).path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert f"DASK_CONFIG={path}" in up.stdout

    def pick() -> int:
        import elder

        return int(elder.pick(2))

    with imagesync.connect(NAME) as client:
        assert client.submit(pick).result() == 2
        assert client.scheduler_info()["address"].startswith("tls://")
    code = (
        "from distributed import Client\n"
        "with Client() as client: print(client.submit(sum, [1, 2]).result(), client.dashboard_link)"
    )
    plain = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "DASK_CONFIG": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    dashboard = load_connection(NAME).dashboard
    assert plain.stdout == f"3 {dashboard}\n", "Dask alone connects by the file"
    with imagesync.connect(NAME, set_as_default=False) as client:
        assert client.dashboard_link == dashboard

    with imagesync.DockerCluster.from_name(NAME, check=False) as cluster, Client(cluster) as client:
        assert (cluster.image, cluster.dashboard_link) == (load_connection(NAME).image, dashboard)
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=60)
        assert client.submit(pick, pure=False).result() == 2
        cluster.scale(1)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1)
    # This process has other packages than the image, and the running cluster isn't to blame.
    with pytest.raises(MismatchError):
        imagesync.DockerCluster.from_name(NAME, strict=True, shutdown_on_close=True)
    assert len(belongings(engine, NAME)) == 3, "neither closing it nor that ends the cluster"

    assert cluster_cli("cluster", "scale", NAME, "3").stdout == f"{NAME}: 3 workers, 1 before\n"
    (listed,) = [
        entry for entry in cluster_cli("cluster", "ls", "--format", "json").json() if entry["name"] == NAME
    ]
    assert (listed["workers"], listed["owner"], listed["leftover"]) == (3, None, False)
    assert load_connection(NAME).address == f"tls://{listed['scheduler']}"
    assert NAME in cluster_cli("cluster", "ls").stdout
    assert cluster_cli("cluster", "scale", NAME, "1").stdout == f"{NAME}: 1 worker, 3 before\n"
    logs = cluster_cli("cluster", "logs", NAME, "--tail", "5").stdout.splitlines()
    assert {line.split()[0] for line in logs} == {"scheduler", "worker-0"}
    assert cluster_cli.run("cluster", "logs", NAME, "worker-7").returncode == 2

    again = cluster_cli.run("cluster", "up", "--name", NAME, "--workers", "0")
    assert (again.returncode, again.stdout) == (1, "")
    assert f"There is a cluster {NAME} already" in again.stderr
    assert cluster_cli("cluster", "down", NAME).stdout == f"{NAME}: removed\n"
    assert not path.exists()
    assert belongings(engine, NAME) == []
    with pytest.raises(ClusterError, match=f"No cluster {NAME} was started here"):
        imagesync.connect(NAME)
    gone = cluster_cli.run("cluster", "down", NAME)
    assert (gone.returncode, gone.stdout) == (1, "")


def test_worker_that_runs_out_of_memory_is_said_with_its_log(cluster_cli: CommandLine) -> None:
    refused = cluster_cli.run("cluster", "up", "--name", NAME, "-n", "1", "--memory-limit", "30MiB")
    assert refused.returncode == 1
    assert "0 of 1 worker joined the cluster: worker-0 ran out of memory, of which it has" in refused.stderr
    assert "30.00 MiB" in refused.stderr
    assert "memory was exhausted" in refused.stderr
    assert "--memory-limit 1GiB" in refused.stderr


# Of the interpreter of these tests, with its files and the engine's socket, as in a dev container.
IN_CONTAINER = """
import sys
from imagesync import DockerCluster
from distributed import Client
if __name__ == "__main__":
    with DockerCluster(sys.argv[1], n_workers=1, nthreads=1, memory_limit=0, check=False) as cluster:
        with Client(cluster) as client:
            print(cluster.name, client.submit(sum, [1, 2]).result())
"""


def test_client_in_a_container_of_the_engine_joins_the_network_of_the_cluster(
    dask_project: DaskProject, root_image: str, engine: docker.DockerClient
) -> None:
    folders = [*{str(ROOT), sys.prefix, sys.base_prefix}, "/var/run/docker.sock"]
    written = engine.containers.run(
        root_image,
        [sys.executable, "-W", "ignore", "-c", IN_CONTAINER, dask_project.reference],
        volumes=[f"{folder}:{folder}:ro" for folder in folders],
        environment={"DOCKER_HOST": "unix:///var/run/docker.sock", "PYTHONDONTWRITEBYTECODE": "1"},
        working_dir=str(ROOT),
        remove=True,
    )
    name, result = written.decode().split()[-2:]
    assert result == "3"
    assert belongings(engine, name) == []


def test_a_cluster_without_work_ends_if_asked(cluster_cli: CommandLine, engine: docker.DockerClient) -> None:
    facts = cluster_cli(
        "--quiet", "cluster", "up", "--name", NAME, "-n", "0", "--idle-timeout", "1", "--format", "json"
    ).json()
    assert facts["name"] == NAME
    wait_until(lambda: belongings(engine, NAME) == [f"imagesync-{NAME}"])
    with pytest.raises(ClusterError, match="doesn't answer"):
        imagesync.connect(NAME, timeout=1)
    with pytest.raises(ClusterError, match="has no scheduler any more"):
        imagesync.DockerCluster.from_name(NAME)
    (listed,) = [
        entry for entry in cluster_cli("cluster", "ls", "--format", "json").json() if entry["name"] == NAME
    ]
    assert listed["leftover"]
    assert "leftover" in cluster_cli("cluster", "ls").stdout
    assert f"{NAME}: removed" in cluster_cli("cluster", "down", "--leftovers").stdout


def test_an_interrupted_start_leaves_nothing(cluster_cli: CommandLine, engine: docker.DockerClient) -> None:
    with cluster_cli.start("cluster", "up", "--name", NAME, "-n", "1", *SMALL) as process:
        wait_until(lambda: len(belongings(engine, NAME)) > 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert belongings(engine, NAME) == []


def test_without_dask_beside_imagesync(tmp_path: Path, cluster_cli: CommandLine) -> None:
    bare = make_environment(tmp_path / "env", python=sys.executable, editable=[ROOT])
    command = [bare.prefix / "bin" / "imagesync", "cluster"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environ = dict(cluster_cli.environ)
        return subprocess.run([*command, *words], env=environ, capture_output=True, text=True, check=False)

    refused = run("up", "--name", NAME)
    assert refused.returncode == 1
    # An environment without pip, and imagesync in it from this checkout.
    assert f"uv pip install --python {bare.python} --editable '{ROOT}[dask]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert isinstance(json.loads(run("ls", "--format", "json").stdout), list), "looking needs no Dask"
    code = (
        "import imagesync\ntry: imagesync.DockerCluster\nexcept imagesync.ImagesyncError as e: print(e.hint)"
    )
    assert "[dask]" in bare.run("-c", code)


SCRIPT = """
import imagesync
from distributed import Client

def look():
    import elder, sys
    return elder.pick(4), sys.prefix

if __name__ == "__main__":
    with imagesync.DockerCluster(n_workers=1, nthreads=1, memory_limit=0, strict=True) as cluster:
        with Client(cluster) as client:
            print(cluster.image, *client.submit(look).result())
"""


def test_a_script_runs_in_the_image_of_its_own_environment(
    image_cli: CommandLine, dask_project: DaskProject, base_python: Path, tmp_path: Path, repository: str
) -> None:
    environment = make_environment(
        tmp_path / "env",
        packages=["cryptography", "distributed"],
        python=base_python,
        editable=[dask_project.folder, ROOT],
    )
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [environment.python, script],
        env={**image_cli.environ, "IMAGESYNC_IGNORE": "imagesync"},
        cwd=image_cli.cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    image, picked, prefix = done.stdout.split()
    assert image.startswith(f"{repository}:")
    assert (picked, prefix) == ("4", "/opt/env")
    assert "Building the image" in done.stderr
    assert "Mismatch" not in done.stderr
