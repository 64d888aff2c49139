"""``imagesync.SwarmCluster`` on a swarm of two engines, with nothing but a network between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from distributed import Client

import imagesync
from imagesync.cluster import labels
from imagesync.cluster.resources import find_resources
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.errors import ClusterError
from tests.integration.dask_project import DaskProject
from tests.integration.local_registry import LocalRegistry
from tests.integration.tiny_image import REFERENCE, context, tiny_archive
from tests.integration.two_engines import Node, TwoEngines, two_engines
from tests.processes import wait_until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.beside,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]

Make = Callable[..., imagesync.SwarmCluster]
LOCAL = "imagesync-test/two-engines:1"
# Without compilers and what comes with them: it is compressed once, and unpacked twice.
SMALL = """
FROM {reference} AS whole
USER root
RUN rm -rf /usr/share /usr/include /usr/src /usr/sbin /usr/libexec /usr/lib/gcc /usr/lib/git-core \
    /usr/lib/*/*.a /usr/lib/*/perl* /usr/lib/*/lib?san.so* /usr/lib/python3*/config-* \
    /usr/bin/*-linux-gnu-* /var
FROM scratch
COPY --from=whole / /
ENV PATH=/opt/env/bin:/usr/bin
USER 1000:1000
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    """Return two engines, which start with the first test and end with the last."""
    with two_engines(tmp_path_factory.mktemp("engines")) as engines:
        yield engines


@pytest.fixture(scope="module")
def image(
    engines: TwoEngines,
    engine: docker.DockerClient,
    dask_project: DaskProject,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Return the project's image, smaller, in a registry that both engines reach; the manager has it."""
    with Engine(find_endpoint(os.environ)) as builder:
        dockerfile = SMALL.format(reference=dask_project.reference)
        built = builder.build(
            [context(dockerfile)],
            BuildRequest("none", "linux/amd64"),
            progress=SilentProgress(),
        )
    manager = engines.manager.client
    (loaded,) = manager.images.load(engine.api.get_image(built))
    engine.images.remove(built)
    loaded.tag(LOCAL)
    folder = tmp_path_factory.mktemp("registry")
    with LocalRegistry(folder, address=engines.host) as registry, pytest.MonkeyPatch.context() as patch:
        registry.push(manager, LOCAL, "team/dask:1")
        patch.setenv("DOCKER_CONFIG", str(registry.docker_config(folder / "docker")))
        yield f"{registry.host}/team/dask:1"


@pytest.fixture
def make(engines: TwoEngines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return ``SwarmCluster`` with small workers; what a test leaves on either machine fails it."""
    for name, value in engines.manager.environ.items():
        monkeypatch.setenv(name, value)
    made: list[imagesync.SwarmCluster] = []

    def cluster(image: str, **options: Any) -> imagesync.SwarmCluster:
        options = {"nthreads": 1, "memory_limit": "400MiB", "check": False, **options}
        made.append(imagesync.SwarmCluster(image, **options))
        return made[-1]

    yield cluster
    for started in made:
        started.close()
        assert len(find_resources(engines.manager.client.api, started.name)) == 0
    own = {"filters": {"label": labels.CLUSTER}}
    for client in (engines.manager.client, engines.worker.client):
        # Each machine clears up when it hears of it; a closed cluster waits for neither.
        wait_until(lambda of=client: not of.api.containers(all=True, **own))  # type: ignore[misc]
        wait_until(lambda of=client: not of.networks.list(**own))  # type: ignore[misc]


def workers_on(node: Node) -> list[Any]:
    own: list[Any] = node.client.containers.list(
        ignore_removed=True, filters={"label": f"{labels.ROLE}=worker"}
    )
    return own


def test_a_computation_on_both_machines(make: Make, engines: TwoEngines, image: str) -> None:
    def megabyte(number: int) -> bytes:
        import time

        time.sleep(0.1)
        return bytes([number]) * 2**20

    cluster = make(image, n_workers=4)
    with Client(cluster) as client:
        cluster.wait_for_workers(4, timeout=60)
        assert workers_on(engines.manager)
        assert workers_on(engines.worker)
        parts = client.map(megabyte, range(40))
        # One worker gets what all have made, most of it from the other machine.
        assert client.submit(lambda all_of_it: sum(map(len, all_of_it)), parts).result(60) == 40 * 2**20
        parts = client.map(megabyte, range(40, 80))
        workers_on(engines.worker)[0].kill()
        assert [part[0] for part in client.gather(parts)] == list(range(40, 80))
        cluster.wait_for_workers(4, timeout=60)
        host = cluster.scheduler_address.partition("//")[2].partition(":")[0]
        left, right = sorted((engines.manager, engines.worker), key=lambda node: node.address != host)
        with engines.drained(right):
            wait_until(lambda: len(workers_on(left)) == 4)
            assert workers_on(right) == []
            cluster.wait_for_workers(4, timeout=60)
            assert len(client.submit(megabyte, 100).result(60)) == 2**20


def test_a_manager_that_runs_nothing_itself(make: Make, engines: TwoEngines, image: str) -> None:
    with engines.drained(engines.manager):
        cluster = make(image, n_workers=1)
        assert cluster.scheduler_address.startswith(f"tls://{engines.worker.address}:")
        with Client(cluster) as client:
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3


def test_an_image_that_the_manager_alone_has(make: Make, engines: TwoEngines) -> None:
    engines.manager.client.api.import_image_from_data(tiny_archive(), *REFERENCE.split(":"))
    with pytest.raises(ClusterError, match="isn't in a registry that the nodes of the swarm"):
        make(REFERENCE)
    with (
        engines.drained(engines.manager),
        pytest.raises(ClusterError, match="isn't in a registry that the nodes of the swarm"),
    ):
        make(REFERENCE)
    with (
        engines.drained(engines.worker),
        pytest.raises(ClusterError, match="ended before it listened"),  # there it does: it has no Python
    ):
        make(REFERENCE)
