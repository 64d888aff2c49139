"""``imagesync.DockerCluster``: real containers, real computations, and nothing left whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from distributed import Client, Event, Security
from distributed.utils import Log

import imagesync
from imagesync.cluster import cluster_engine, scheduler_streams
from imagesync.cluster.connection import security_to_dict
from imagesync.cluster.labels import CLUSTER
from imagesync.errors import ClusterError, EngineError, MismatchError, MismatchWarning, UsageError
from tests.integration.dask_project import DaskProject
from tests.processes import PATIENCE, wait_until

pytestmark = [
    pytest.mark.engine,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]

Make = Callable[..., imagesync.DockerCluster]


@pytest.fixture
def make(dask_project: DaskProject, engine: docker.DockerClient) -> Iterator[Make]:
    """Return ``DockerCluster`` in the project's image; what a test leaves fails it."""
    made: list[imagesync.DockerCluster] = []

    def cluster(**options: Any) -> imagesync.DockerCluster:
        options = {"n_workers": 2, "nthreads": 1, "memory_limit": "400MiB", "check": False, **options}
        made.append(imagesync.DockerCluster(dask_project.reference, **options))
        return made[-1]

    yield cluster
    for started in made:
        started.close()
        assert belongings(engine, started.name) == []


def belongings(engine: docker.DockerClient, name: str) -> list[str]:
    """Return what the engine has of a cluster."""
    wanted = {"label": f"{CLUSTER}={name}"}
    containers = engine.api.containers(all=True, filters=wanted)
    return [entry["Names"][0] for entry in containers] + [
        entry["Name"] for entry in engine.api.networks(filters=wanted)
    ]


def container_of(engine: docker.DockerClient, cluster: imagesync.DockerCluster, part: str) -> Any:
    """Return a container of a cluster, by the beginning of what follows the cluster's name."""
    found = engine.containers.list(filters={"name": f"imagesync-{cluster.name}-{part}"})
    (container,) = found
    return container


def page_at(url: str) -> bytes:
    """Return what an HTTP server says, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return bytes(refused.read())


@pytest.fixture
def other_network(engine: docker.DockerClient) -> Iterator[str]:
    """Return the name of a network that isn't a cluster's."""
    network = engine.networks.create(f"imagesync-test-{secrets.token_hex(4)}")
    yield str(network.name)
    network.remove()


def test_a_computation_with_the_users_own_package_and_limits_that_hold(
    make: Make, engine: docker.DockerClient, other_network: str, tmp_path: Path
) -> None:
    (tmp_path / "data.txt").write_text("seen")
    cluster = make(
        nthreads=None,
        threads_per_worker=2,
        cpus=0.5,
        scheduler_options={"allowed_failures": 7},
        worker_options={"lifetime": "1h"},
        shm_size="100MB",
        network=other_network,
        labels={"com.example.team": "weather"},
        docker={"cap_drop": ["NET_RAW"]},
        environment={"COLOUR": "green"},
        mounts=[f"{tmp_path}:/data:ro"],
        resources={"press": 1},
        config={"distributed.worker.memory.target": 0.5},
    )

    def look(number: int) -> tuple[int, str, str, float, int]:
        import dask
        import elder

        seen = Path("/data/data.txt").read_text()
        target = dask.config.get("distributed.worker.memory.target")
        shared_memory = os.statvfs("/dev/shm")
        size = shared_memory.f_blocks * shared_memory.f_frsize
        return elder.pick(number), os.environ["COLOUR"], seen, target, size

    with cluster, Client(cluster) as client:
        cluster.wait_for_workers(2)
        assert client.gather(client.map(look, range(3), resources={"press": 1})) == [
            (number, "green", "seen", 0.5, 100 * 2**20) for number in range(3)
        ]
        workers = client.scheduler_info()["workers"].values()
        assert {(worker["name"], worker["nthreads"], worker["memory_limit"]) for worker in workers} == {
            (0, 2, 400 * 2**20),
            (1, 2, 400 * 2**20),
        }
        assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures) == 7
        assert set(client.run(lambda dask_worker: dask_worker.lifetime).values()) == {3600}
        inspected = container_of(engine, cluster, "worker-0").attrs
        assert inspected["HostConfig"]["ShmSize"] == 100 * 2**20
        assert [name.removeprefix("CAP_") for name in inspected["HostConfig"]["CapDrop"]] == ["NET_RAW"]
        assert inspected["Config"]["Labels"]["com.example.team"] == "weather"
        assert set(inspected["NetworkSettings"]["Networks"]) == {other_network, f"imagesync-{cluster.name}"}
        assert inspected["HostConfig"]["NanoCpus"] == 500_000_000
        assert inspected["HostConfig"]["Memory"] == 400 * 2**20
        assert inspected["NetworkSettings"]["Ports"] == {}, "workers publish nothing"
        scheduler = container_of(engine, cluster, "scheduler").attrs
        published = scheduler["NetworkSettings"]["Ports"].values()
        assert {binding["HostIp"] for bindings in published for binding in bindings} == {"127.0.0.1"}
        assert "PRIVATE KEY" not in json.dumps([inspected, scheduler])
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        # Without Bokeh in the image the page says so, once the scheduler has looked.
        wait_until(lambda: b"Dask needs bokeh" in page_at(cluster.dashboard_link))
        logs = cluster.logs()
        assert set(logs) == {"scheduler", "worker-0", "worker-1"}
        assert "Registered to" in logs["worker-0"]
        assert isinstance(cluster.get_logs()["Scheduler"], Log)
    cluster.close()  # closing twice does nothing


def test_closing_a_cluster_leaves_nothing_in_the_engine(make: Make, engine: docker.DockerClient) -> None:
    cluster = make(n_workers=4)
    cluster.wait_for_workers(4)
    cluster.close()
    assert belongings(engine, cluster.name) == []


def test_scaling_by_hand_and_by_load(make: Make) -> None:
    cluster = make(n_workers=1)
    with Client(cluster) as client:
        cluster.scale(3)
        cluster.wait_for_workers(3, timeout=60)
        kept = client.scatter([1, 2, 3])
        cluster.scale(1)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1)
        assert client.gather(kept) == [1, 2, 3], "what a worker had goes to those who stay"
        del kept
        cluster.adapt(minimum=0, maximum=2, interval="100ms", wait_count=2)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 0)
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3


def test_group_of_workers_has_its_own_options_and_is_scaled_by_name(make: Make) -> None:
    big = {"n_workers": 1, "nthreads": 2, "resources": {"press": 1}, "memory_limit": 0}
    cluster = make(n_workers=1, resources={"leaf": 1}, groups={"big": big})
    with Client(cluster) as client:
        cluster.wait_for_workers(2, timeout=60)
        future = client.submit(lambda: __import__("distributed").get_worker().name, resources={"press": 1})
        assert future.result() == "big-0"
        cluster.scale(0)
        wait_until(lambda: list(cluster.workers) == ["big-0"])
        cluster.scale(2, worker_group="big")
        cluster.wait_for_workers(2, timeout=60)
        assert {worker["name"] for worker in cluster.scheduler_info["workers"].values()} == {"big-0", "big-1"}
        with pytest.raises(UsageError, match="has no group small"):
            cluster.scale(1, worker_group="small")
        with pytest.raises(UsageError, match="have no memory limit"):
            cluster.scale(memory="4GiB", worker_group="big")

        # Workers of groups neither count nor go, and don't keep others from coming that a task needs.
        # Nor do the results that they hold keep others, although they have no memory limit.
        adaptive = cluster.adapt(minimum=0, maximum=1, interval="50ms", wait_count=2)
        go = Event("go", client=client)
        waiting = client.submit(go.wait, resources={"leaf": 1}, pure=False)
        wait_until(lambda: adaptive.observed == adaptive.plan == {0})
        go.set()
        assert waiting.result(timeout=60)
        del waiting
        wait_until(lambda: set(cluster.workers) == {"big-0", "big-1"})
        cluster.adapt(minimum=1, maximum=1, interval="50ms", wait_count=2)
        wait_until(lambda: set(cluster.observed) == {0, "big-0", "big-1"})


def test_asynchronous_cluster_computes_and_is_removed(
    dask_project: DaskProject, engine: docker.DockerClient
) -> None:
    async def work() -> str:
        async with (
            imagesync.DockerCluster(
                dask_project.reference, n_workers=1, nthreads=1, check=False, asynchronous=True
            ) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            assert await client.submit(sum, [1, 2]) == 3
            assert set(await cluster.logs(tail=1)) == {"scheduler", "worker-0"}
            return cluster.name

    assert belongings(engine, asyncio.run(work())) == []


def test_a_worker_whose_process_dies_in_a_computation(make: Make, engine: docker.DockerClient) -> None:
    def die_once(number: int) -> int:
        died = Path("/tmp/died")
        if number == 3 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return number

    cluster = make()
    with Client(cluster) as client:
        cluster.wait_for_workers(2)
        before = {worker.container for worker in cluster.workers.values()}
        assert client.gather(client.map(die_once, range(20))) == list(range(20))
        cluster.wait_for_workers(2, timeout=60)
        assert {worker.container for worker in cluster.workers.values()} == before
        assert any("ended by signal 9, and is started again" in text for text in cluster.logs().values())


def test_a_worker_whose_container_is_killed_in_a_computation(make: Make, engine: docker.DockerClient) -> None:
    def wait(number: int) -> int:
        time.sleep(0.1)
        return number

    cluster = make()
    with Client(cluster) as client:
        cluster.wait_for_workers(2)
        futures = client.map(wait, range(40))
        killed = container_of(engine, cluster, "worker-0")
        killed.kill()
        assert client.gather(futures) == list(range(40))
        cluster.wait_for_workers(2, timeout=60)
        assert container_of(engine, cluster, "worker-0").id != killed.id


def test_client_restart_gives_each_worker_a_new_process(make: Make) -> None:
    cluster = make()
    with Client(cluster) as client:
        cluster.wait_for_workers(2)
        before = client.run(os.getpid)
        client.restart(timeout=60)
        after = client.run(os.getpid)
        assert len(after) == 2
        assert set(before.items()).isdisjoint(after.items())


def test_nannies_where_they_are_wanted(make: Make) -> None:
    cluster = make(n_workers=1, nanny=True)
    with Client(cluster) as client:
        cluster.wait_for_workers(1, timeout=60)
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["nanny"]


SCRIPT = """
import json, sys
import imagesync
cluster = imagesync.DockerCluster(sys.argv[1], n_workers=2, nthreads=1, check=False)
cluster.wait_for_workers(2)
print(json.dumps([cluster.name, cluster._reaper._process.pid]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def victim(dask_project: DaskProject) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Return a process with a cluster, the cluster's name, and the process that watches it."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, dask_project.reference],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name, reaper = json.loads(process.stdout.readline())
        yield process, name, reaper
        process.kill()


def test_a_killed_client_takes_everything_with_it(
    victim: tuple[subprocess.Popen[str], str, int], engine: docker.DockerClient
) -> None:
    process, name, _ = victim
    assert len(belongings(engine, name)) == 4
    process.kill()
    wait_until(lambda: belongings(engine, name) == [])


def test_a_client_that_is_killed_with_its_reaper_leaves_a_network_that_the_next_one_removes(
    victim: tuple[subprocess.Popen[str], str, int], engine: docker.DockerClient, make: Make
) -> None:
    process, name, reaper = victim
    os.kill(reaper, signal.SIGKILL)
    process.kill()
    process.wait()
    # The scheduler sees that nobody holds its standard input any more, and tells the workers.
    wait_until(lambda: belongings(engine, name) == [f"imagesync-{name}"])
    make(n_workers=0)
    assert belongings(engine, name) == []


def test_a_client_that_ends_without_closing(
    victim: tuple[subprocess.Popen[str], str, int], engine: docker.DockerClient
) -> None:
    process, name, _ = victim
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=PATIENCE) == 0
    wait_until(lambda: belongings(engine, name) == [])


def test_the_network_is_removed_below_a_cluster(
    make: Make, engine: docker.DockerClient, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make()
    cluster.wait_for_workers(2)
    network = engine.networks.get(f"imagesync-{cluster.name}")
    for container in engine.containers.list(filters={"label": f"{CLUSTER}={cluster.name}"}):
        # The cluster ends itself meanwhile, and the engine refuses then.
        with contextlib.suppress(docker.errors.APIError):
            network.disconnect(container, force=True)
    wait_until(lambda: bool(cluster.lost))
    wait_until(lambda: cluster.status.name == "closed")
    assert "disconnected" in cluster.lost
    assert cluster.lost in caplog.text
    assert belongings(engine, cluster.name) == []


def test_the_schedulers_container_is_killed(make: Make, engine: docker.DockerClient) -> None:
    cluster = make()
    cluster.wait_for_workers(2)
    container_of(engine, cluster, "scheduler").kill()
    wait_until(lambda: cluster.status.name == "closed")
    assert "ended with 137" in cluster.lost


def test_two_clusters_side_by_side(make: Make, engine: docker.DockerClient) -> None:
    one, other = make(n_workers=1), make(n_workers=1)
    with Client(one) as first, Client(other, set_as_default=False) as second:
        assert first.submit(sum, [1, 2]).result() == second.submit(sum, [2, 1]).result() == 3
        first.close()
        one.close()
        assert second.submit(sum, [3, 4]).result() == 7
        assert belongings(engine, one.name) == []
        assert len(belongings(engine, other.name)) == 3


def test_a_name_is_taken_once(make: Make, engine: docker.DockerClient) -> None:
    cluster = make(n_workers=0)
    with pytest.raises(ClusterError, match=f"There is a cluster {cluster.name} already"):
        make(n_workers=0, name=cluster.name)
    assert len(belongings(engine, cluster.name)) == 2, "the first one lives on"


INTRUDER = """
import asyncio, json, sys
from distributed import Security
from distributed.comm import connect

async def attempt(address, security, timeout):
    try:
        comm = await connect(address, timeout=timeout, **Security(**security).get_connection_args("client"))
        await comm.write({"op": "identity"})
        return (await asyncio.wait_for(comm.read(), timeout))["type"]
    except Exception as error:
        return type(error).__name__

async def main():
    return await asyncio.gather(*(attempt(*each) for each in json.loads(sys.argv[1])))

print(json.dumps(asyncio.run(main())))
"""


def test_no_other_container_gets_in_without_the_certificates(
    make: Make, engine: docker.DockerClient, dask_project: DaskProject
) -> None:
    cluster = make(n_workers=1)
    cluster.wait_for_workers(1)
    (worker,) = cluster.scheduler_info["workers"]
    network = f"imagesync-{cluster.name}"
    attached = container_of(engine, cluster, "scheduler").attrs["NetworkSettings"]["Networks"][network]
    scheduler, worker = f"{attached['IPAddress']}:8786", worker.removeprefix("tls://")
    published = cluster.scheduler_address.removeprefix("tls://")
    own, none = security_to_dict(Security.temporary()), {"require_encryption": False}

    def attempt(network: str, *targets: str) -> list[str]:
        # Who isn't let in tries again for as long as that.
        attempts = [(f"tls://{target}", own, 3) for target in targets]
        attempts += [(f"tcp://{target}", none, 3) for target in targets]
        # That it is the certificates that count: with them one gets in, from wherever there is a route.
        patience = 3 if network == "bridge" else 60
        attempts.append((f"tls://{targets[0]}", security_to_dict(cluster.security), patience))
        command = ["python", "-c", INTRUDER, json.dumps(attempts)]
        said = engine.containers.run(
            dask_project.reference, command, network=network, remove=True, stderr=False
        )
        answers: list[str] = json.loads(said)
        return answers

    *refused, admitted = attempt(network, scheduler, worker)
    assert len(refused) == 4
    assert all("Error" in answer for answer in refused), refused
    assert admitted == "Scheduler"
    *refused, admitted = attempt("host", published)
    assert all("Error" in answer for answer in refused), refused
    assert admitted == "Scheduler"
    refused = attempt("bridge", scheduler)
    assert all("Error" in answer for answer in refused), "another network has no route, whatever it shows"


def test_without_encryption_if_asked(make: Make) -> None:
    cluster = make(n_workers=1, security=False)
    assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
    with Client(cluster) as client:
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gpus": "all"}, EngineError, "gpu"),
        ({"cpus": 1000}, EngineError, "CPUs"),
        ({"mounts": ["nowhere"]}, UsageError, "is malformed"),
        ({"memory_limit": "much"}, UsageError, "isn't an amount of memory"),
        ({"name": "Not A Name"}, UsageError, "isn't a valid name"),
        ({"docker": {"auto_remove": False}}, UsageError, "isn't an option of a cluster's containers"),
        ({"worker_options": {"plugins": [object()]}}, UsageError, "can't be sent to a container"),
        ({"threads_per_worker": 3}, UsageError, "the same option"),
        ({"dashboard_address": "127.0.0.1:8787"}, UsageError, "isn't a port"),
        ({"network": "no-such-network"}, EngineError, "no-such-network"),
    ],
)
def test_what_cannot_be_had_is_said_and_leaves_nothing(
    make: Make,
    engine: docker.DockerClient,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    before = engine.api.networks(filters={"label": CLUSTER})
    with pytest.raises(error, match=message):
        make(n_workers=1, **options)
    assert engine.api.networks(filters={"label": CLUSTER}) == before


AlteredImage = Callable[[str], str]


@pytest.fixture
def altered_image(dask_project: DaskProject, engine: docker.DockerClient) -> Iterator[AlteredImage]:
    """Return a function that gives an image in which Python code was run as root."""
    made = []

    def alter(code: str) -> str:
        container = engine.containers.create(dask_project.reference, ["python", "-c", code], user="0")
        container.start()
        assert container.wait()["StatusCode"] == 0, container.logs()
        made.append(container.commit(f"imagesync-test-altered-{secrets.token_hex(4)}"))
        container.remove()
        return str(made[-1].tags[0])

    yield alter
    for image in made:
        engine.images.remove(image.id, force=True)


def test_images_that_cannot_run_a_cluster(
    altered_image: AlteredImage, root_image: str, engine: docker.DockerClient
) -> None:
    without_dask = altered_image("import distributed, shutil; shutil.rmtree(distributed.__path__[0])")
    options: dict[str, Any] = {"n_workers": 1, "nthreads": 1, "name": "barren"}
    with pytest.raises(ClusterError, match=r"(?s)ended before it listened.*No module named") as caught:
        imagesync.DockerCluster(without_dask, **options)
    # No image of ours has pip.
    tried = f"docker run --rm {without_dask} python -c 'import distributed'"
    assert str(caught.value.hint).endswith(tried)
    with pytest.raises(ClusterError, match="no `python` on the PATH"):
        imagesync.DockerCluster(root_image, **options)
    assert belongings(engine, "barren") == []


def test_scheduler_that_neither_listens_nor_ends(
    make: Make, engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dask.py").write_text("import time; print('asleep', flush=True); time.sleep(600)")
    monkeypatch.setattr(cluster_engine, "START_TIMEOUT", 3)
    monkeypatch.setattr(scheduler_streams, "_SILENCE", 0.5)
    with pytest.raises(ClusterError, match=r"(?s)hasn't listened for 3 s:.*asleep"):
        make(
            name="sleeping",
            n_workers=0,
            mounts=[f"{tmp_path}:/sleeping:ro"],
            environment={"PYTHONPATH": "/sleeping"},
        )
    assert belongings(engine, "sleeping") == []


def test_versions_of_client_and_scheduler_are_compared_before_the_first_task(
    altered_image: AlteredImage, engine: docker.DockerClient
) -> None:
    other_version = altered_image(
        "import importlib.metadata as m; path = m.distribution('toolz')._path / 'METADATA';"
        "path.write_text('Metadata-Version: 2.1\\nName: toolz\\nVersion: 0.0.1\\n')"
    )
    options: dict[str, Any] = {"n_workers": 0, "nthreads": 1, "check": False}
    with (
        pytest.warns(MismatchWarning, match=r"toolz is .* here and 0\.0\.1 on the scheduler"),
        imagesync.DockerCluster(other_version, **options),
    ):
        pass
    with pytest.raises(MismatchError, match="toolz"):
        imagesync.DockerCluster(other_version, strict=True, name="strict", **options)
    assert belongings(engine, "strict") == []


def test_all_packages_are_compared_once_the_workers_have_come(dask_project: DaskProject, make: Make) -> None:
    session = imagesync.open_session(python=dask_project.environment.python, quiet=True)
    cluster = make(check=True, strict=True, session=session)
    assert len(cluster.scheduler_info["workers"]) == 2
    assert cluster.check().matches
    with dask_project.edited(2), pytest.raises(MismatchError, match="elder"):
        cluster.check(strict=True)
