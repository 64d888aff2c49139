"""What Dask documents of its clusters, on ``DockerCluster``: the rows of the table in docs/clusters.md."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from distributed import Client, Event, Lock, Queue, Variable, as_completed, get_task_stream, wait
from distributed.deploy.adaptive import Adaptive
from distributed.diagnostics import MemorySampler
from distributed.diagnostics.plugin import SchedulerPlugin, UploadFile, WorkerPlugin
from distributed.utils import Log, Logs
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import imagesync
from tests.integration.dask_project import DaskProject
from tests.processes import wait_until

pytestmark = [
    pytest.mark.engine,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]

MEMORY = 400 * 2**20
AnyCluster = imagesync.DockerCluster | imagesync.SwarmCluster
"""The tests that test_cluster_swarm_interface.py has, too, are the same for both."""


@pytest.fixture(scope="module")
def cluster(dask_project: DaskProject) -> Iterator[AnyCluster]:
    """Return a cluster of two workers for all tests of this module; who changes it takes it back."""
    with imagesync.DockerCluster(
        dask_project.reference, n_workers=2, nthreads=1, memory_limit=MEMORY, check=False
    ) as cluster:
        assert len(cluster.scheduler_info["workers"]) == 2, "the constructor waits for the workers"
        yield cluster


@pytest.fixture
def client(cluster: AnyCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def test_repr_and_html_say_what_runs(cluster: AnyCluster) -> None:
    text = (
        f"{type(cluster).__name__}('{cluster.name}', '{cluster.scheduler_address}', workers=2, threads=2,"
        " memory=800.00 MiB)"
    )
    assert repr(cluster) == str(cluster) == text
    html = re.sub(r"<[^>]*>|\s+", " ", cluster._repr_html_())
    assert re.search(
        rf"{type(cluster).__name__} .*Workers: +2 .*Total threads: +2 .*Total memory: +800.00 MiB", html
    )


def test_attributes(cluster: AnyCluster) -> None:
    assert cluster.status.name == "running"
    assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
    assert cluster.dashboard_link.startswith("http://127.0.0.1:")
    assert cluster.plan == cluster.requested == cluster.observed == {0, 1}
    assert set(cluster.worker_spec) == set(cluster.workers) == {0, 1}
    assert cluster.scheduler_info["type"] == "Scheduler"
    assert not cluster.asynchronous
    assert cluster.loop.asyncio_loop.is_running()
    assert list(cluster.new_worker_spec()) == [2]

    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(cluster)  # nor can any other cluster of Dask's


def test_client_of_a_cluster(cluster: AnyCluster) -> None:
    with cluster.get_client() as client:
        assert client.cluster is cluster
        assert cluster.get_client() is client
        assert client.submit(abs, -2).result() == 2
        assert client.dashboard_link == cluster.dashboard_link
    with Client(cluster, set_as_default=False) as one, Client(cluster, set_as_default=False) as other:
        one.publish_dataset(answer=42)
        assert other.get_dataset("answer") == 42
        other.unpublish_dataset("answer")


def test_second_event_loop(cluster: AnyCluster) -> None:
    async def compute() -> int:
        async with Client(
            cluster.scheduler_address, security=cluster.security, asynchronous=True, set_as_default=False
        ) as client:
            return int(await client.submit(abs, -2, pure=False))

    results = [asyncio.run(compute())]
    thread = threading.Thread(target=lambda: results.append(asyncio.run(compute())))
    thread.start()
    thread.join()
    assert results == [2, 2]


def test_sync_runs_coroutines(cluster: AnyCluster) -> None:
    async def double(number: int, *, plus: int) -> int:
        await asyncio.sleep(0)
        return 2 * number + plus

    assert cluster.sync(double, 2, plus=1) == 5
    assert cluster.sync(cluster.scheduler_comm.identity)["type"] == "Scheduler"


def test_logs(cluster: AnyCluster) -> None:
    logs = cluster.get_logs()
    assert isinstance(logs, Logs)
    assert set(logs) == {"Cluster", "Scheduler", *cluster.scheduler_info["workers"]}
    assert isinstance(logs["Scheduler"], Log)
    assert set(cluster.get_logs(cluster=False, workers=False)) == {"Scheduler"}
    address = next(iter(cluster.scheduler_info["workers"]))
    assert set(cluster.get_logs(cluster=False, scheduler=False, workers=[address])) == {address}


def test_waiting_for_workers(cluster: AnyCluster) -> None:
    cluster.wait_for_workers(2)
    with pytest.raises(ValueError, match="positive integer"):
        cluster.wait_for_workers(0)
    with pytest.raises(TimeoutError):
        cluster.wait_for_workers(3, timeout=0.2)


def test_scaling_with_each_argument(cluster: AnyCluster) -> None:
    def has(number: int) -> None:
        wait_until(
            lambda: len(cluster.scheduler_info["workers"]) == number == len(cluster.workers),
            state=lambda: (cluster.worker_spec, cluster.workers, cluster.observed, cluster.logs(tail=5)),
        )

    cluster.scale(0)
    has(0)
    assert "workers=0, threads=0" in repr(cluster)
    assert "0 / 0" not in cluster._scaling_status()
    cluster.scale(cores=2)
    has(2)
    cluster.scale(memory=3 * MEMORY)
    has(3)
    cluster.sync(cluster.scale_down, [next(iter(cluster.workers))])
    has(2)
    assert len(cluster.worker_spec) == 2
    # The new worker gets the name of the one that is about to end.
    cluster.scale(1)
    wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1)
    cluster.scale(cores=2)
    has(2)
    assert len(cluster.worker_spec) == 2


def test_adapting_with_each_argument(cluster: AnyCluster) -> None:
    adaptive = cluster.adapt(
        minimum_cores=1, maximum_cores=2, minimum_memory=2 * MEMORY, maximum_memory=4 * MEMORY
    )
    assert isinstance(adaptive, Adaptive)
    assert (adaptive.minimum, adaptive.maximum) == (2, 2)
    adaptive.stop()
    again = cluster.adapt(minimum=1, maximum=2, interval="50ms", wait_count=2, target_duration="1s")
    assert (again.minimum, again.maximum) == (1, 2)
    # Dask changes the specification once a worker is retired, even if it has been told to stop meanwhile.
    wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1 == len(cluster.worker_spec))
    assert "Adaptive" in cluster._scaling_status()
    again.stop()
    assert "Manual" in cluster._scaling_status()
    cluster.scale(2)
    cluster.wait_for_workers(2, timeout=60)


def test_widget_scales_and_adapts(cluster: AnyCluster) -> None:
    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            cluster._ipython_display_()
    finally:
        InteractiveShell.clear_instance()
    (shown,) = captured.outputs
    assert shown.data["text/plain"] == repr(cluster)
    assert "Total threads" in shown.data["text/html"]
    assert shown.data["application/vnd.jupyter.widget-view+json"]["model_id"] == cluster._widget().model_id

    (_, scaling) = cluster._widget().children
    (status, controls) = scaling.children
    ((number, scale), (minimum, maximum, adapt)) = (row.children for row in controls.children)
    number.value = 1
    scale.click()
    wait_until(lambda: "Workers: 1<" in status.value)
    minimum.value = maximum.value = 2
    adapt.click()
    wait_until(lambda: "Workers: 2<" in status.value and "Adaptive" in status.value)
    number.value = 2
    scale.click()
    assert "Manual" in status.value


def test_functions_files_and_plugins_on_all_members(client: Client, tmp_path: Path) -> None:
    class OnWorkers(WorkerPlugin):
        name = "on-workers"

        def setup(self, worker: Any) -> None:
            worker.planted = "elm"

    class OnScheduler(SchedulerPlugin):
        name = "on-scheduler"

        async def start(self, scheduler: Any) -> None:
            scheduler.planted = "oak"

    def planted(dask_worker: Any) -> str:
        return str(dask_worker.planted)

    def planted_there(dask_scheduler: Any) -> str:
        return str(dask_scheduler.planted)

    def kind() -> str:
        import alder

        return str(alder.kind)

    client.register_plugin(OnWorkers())
    client.register_plugin(OnScheduler())
    assert set(client.run(planted).values()) == {"elm"}
    assert client.run_on_scheduler(planted_there) == "oak"
    client.unregister_worker_plugin("on-workers")
    (tmp_path / "alder.py").write_text("kind = 'alder'\n")
    client.upload_file(str(tmp_path / "alder.py"))
    assert set(client.run(kind).values()) == {"alder"}
    client.register_plugin(UploadFile(str(tmp_path / "alder.py")), name="file")
    client.unregister_worker_plugin("file")


def test_diagnostics(client: Client) -> None:
    sampler = MemorySampler()
    with get_task_stream(client) as stream, sampler.sample("load", client=client, interval=0.1):
        wait(client.map(abs, range(10), pure=False))
        time.sleep(0.3)
    assert len(stream.data) == 10
    assert sampler.samples["load"]
    assert client.get_versions()["scheduler"]["packages"]["distributed"]
    assert isinstance(client.profile(), dict)
    assert len(client.get_worker_logs()) == 2


def test_coordination_primitives_and_actors(client: Client) -> None:
    class Counter:
        number = 0

        def increment(self) -> int:
            self.number += 1
            return self.number

    def put(name: str) -> None:
        with Lock(name):
            Queue(name).put(1)
        Variable(name).set(2)
        Event(name).set()

    client.submit(put, "here", pure=False).result()
    assert Queue("here", client=client).get(timeout=60) == 1
    assert Variable("here", client=client).get(timeout=60) == 2
    assert Event("here", client=client).wait(timeout=60)
    counter = client.submit(Counter, actor=True).result()
    assert [counter.increment().result() for _ in range(2)] == [1, 2]
    assert sorted(result for _, result in as_completed(client.map(abs, [-2, -3]), with_results=True)) == [
        2,
        3,
    ]


def test_data_moves_between_workers(client: Client) -> None:
    (first, second) = client.scheduler_info()["workers"]
    data = client.scatter([1, 2, 3, 4], workers=[first])
    client.replicate(data, n=2)
    assert all(set(workers) == {first, second} for workers in client.who_has(data).values())
    client.rebalance(data)
    assert client.gather(data) == [1, 2, 3, 4]


def test_restart_of_all_workers_and_of_some(client: Client) -> None:
    before = client.run(os.getpid)
    (address, other) = before
    assert client.restart_workers([address], timeout=60) == {address: "OK"}
    client.wait_for_workers(2, timeout=60)
    between = client.run(os.getpid)
    assert address not in between
    assert between[other] == before[other]
    client.restart(timeout=60)
    after = client.run(os.getpid)
    assert len(after) == 2
    assert set(after).isdisjoint(between)
    assert client.submit(abs, -2, pure=False).result() == 2


def test_closing_twice_and_what_is_said_afterwards(dask_project: DaskProject) -> None:
    cluster = imagesync.DockerCluster(
        dask_project.reference, n_workers=0, nthreads=1, memory_limit=MEMORY, check=False
    )
    # A client before there is any worker.
    with Client(cluster, set_as_default=False) as client:
        future = client.submit(abs, -2)
        cluster.scale(1)
        assert future.result(timeout=60) == 2
    cluster.close()
    cluster.close()
    assert cluster.status.name == "closed"
    assert "workers=0" in repr(cluster)
    html = re.sub(r"<[^>]*>|\s+", " ", cluster._repr_html_())
    assert re.search(r"Workers: +0 .*Workers: +0 ", html)
    with pytest.raises(RuntimeError, match="closed"):
        Client(cluster)


ABANDONED = """
import sys, warnings
import imagesync
from distributed import Client
warnings.simplefilter("ignore")
cluster = imagesync.DockerCluster(sys.argv[1], n_workers=1, nthreads=1, memory_limit="400MiB", check=False)
client = Client(cluster)
client.submit(abs, -2).result()
raise KeyError("mine")
"""


def test_orders_of_closing_say_no_more_than_a_local_cluster(
    dask_project: DaskProject, caplog: pytest.LogCaptureFixture
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ABANDONED, dask_project.reference], stderr=subprocess.PIPE, text=True
    ) as script:
        for first in ("client", "cluster"):
            cluster = imagesync.DockerCluster(
                dask_project.reference, n_workers=0, nthreads=1, memory_limit=MEMORY, check=False
            )
            client = Client(cluster, set_as_default=False)
            for each in (client, cluster) if first == "client" else (cluster, client):
                each.close()
            assert client.status == "closed"
        assert caplog.records == []
        # A script that ends by an exception, without having closed anything.
        _, said = script.communicate(timeout=60)
    assert re.fullmatch(r"Traceback \(most recent call last\):\n( .*\n)+KeyError: 'mine'\n", said)


def test_killed_scheduler_is_one_line(
    dask_project: DaskProject, engine: docker.DockerClient, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        imagesync.DockerCluster(
            dask_project.reference, n_workers=0, nthreads=1, memory_limit=MEMORY, check=False
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        engine.containers.get(cluster.scheduler.container).kill()
        wait_until(lambda: cluster.status.name == "closed" and client.status == "closed")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"The cluster {cluster.name} is lost. The scheduler's container ended with 137."
