"""A cluster whose engine stalls, cuts, slows, lies or repeats at a request of its start."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import docker
import pytest
from distributed import Client

import imagesync
from imagesync.engine import client, liveness
from imagesync.errors import ImagesyncError
from tests.engine_proxy import EngineProxy
from tests.integration.conftest import (  # noqa: F401  fixtures
    base_python,
    dask_project,
    engine,
    root_image,
)
from tests.integration.dask_project import DaskProject
from tests.integration.test_cluster_docker import belongings
from tests.processes import wait_until

pytestmark = [
    pytest.mark.campaign,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
    # The SDK doesn't close the socket of an answer that it can't read.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
BUDGET = 240.0  # seconds
TIMEOUT = 15.0  # seconds that stand for the engine's 60
LONGEST = 90.0  # seconds for a start that fails, of which a busy machine takes most


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProxy]:
    """Give the machine's engine under another address, to which this process is less patient."""
    monkeypatch.setattr(client, "REQUEST_TIMEOUT", TIMEOUT)
    monkeypatch.setattr("imagesync.cluster.cluster_engine._HURRIED_TIMEOUT", 5.0)
    monkeypatch.setattr(liveness, "EVERY", 1.0)
    monkeypatch.setattr(liveness, "PATIENCE", TIMEOUT)
    with EngineProxy() as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.url)
        yield proxy


def start(reference: str, name: str) -> imagesync.DockerCluster:
    return imagesync.DockerCluster(
        reference, name=name, n_workers=1, nthreads=1, memory_limit="400MiB", check=False
    )


def attempt(proxy: EngineProxy, reference: str, name: str) -> str:
    """Start a cluster, use and close it; return the message of the error that prevents it, if one does."""
    try:
        with start(reference, name) as cluster, Client(cluster) as user:
            assert user.submit(sum, [1, 2]).result(timeout=60) == 3
            proxy.fail(-1, "rubbish")
    except ImagesyncError as error:
        return error.message
    return ""


def volumes(engine: docker.DockerClient) -> set[str]:  # noqa: F811
    return {volume.name for volume in engine.volumes.list()}


def test_fault_at_a_request_of_a_start_leaves_nothing(
    proxy: EngineProxy,
    engine: docker.DockerClient,  # noqa: F811
    dask_project: DaskProject,  # noqa: F811
    tried: Callable[[str], None],
) -> None:
    chance = random.Random()
    assert attempt(proxy, dask_project.reference, "hostile-start") == ""
    proxy.forget()
    with start(dask_project.reference, "hostile-count"):
        many = len(proxy.requests)
    planned = [(n, fault) for n in range(many) for fault in (*proxy.FAULTS, *proxy.STALLS)]
    chance.shuffle(planned)
    before = volumes(engine)
    end = time.monotonic() + BUDGET
    for number, fault in planned:
        name = f"hostile-{number}-{chance.randrange(1 << 20):x}"
        proxy.fail(number, fault)
        began = time.monotonic()
        message = attempt(proxy, dask_project.reference, name)
        seconds = time.monotonic() - began
        print(number, fault, f"{seconds:.1f} s", message)  # for whoever reads of a failure
        assert seconds < LONGEST
        proxy.fail(-1, fault)
        # Where the removal has failed, the process that outlives this one goes on with it.
        with suppress(AssertionError):
            wait_until(lambda name=name: not belongings(engine, name), 20)  # type: ignore[misc]
        assert belongings(engine, name) == []
        assert volumes(engine) <= before
        tried(f"cluster's start: {fault}")
        if time.monotonic() > end:
            break
