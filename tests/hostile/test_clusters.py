"""A cluster whose engine, index, scheduler or worker fails at a moment of its start or of a sync."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from distributed import Client

import imagesync
from imagesync.engine import client, liveness
from imagesync.errors import ImagesyncError
from imagesync.session import Session, open_session
from tests.commands import BIN
from tests.engine_proxy import EngineProxy
from tests.environments import run
from tests.hostile.test_fault_proxies import FAULTS, SLOW_FAULTS
from tests.indexes import LocalIndex
from tests.integration.dask_project import ContainerCluster, DaskProject
from tests.integration.registry_proxy import Fault, RegistryProxy
from tests.integration.test_cluster_docker import belongings
from tests.processes import wait_until

pytestmark = [
    pytest.mark.campaign,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
    # The SDK doesn't close the socket of an answer that it can't read.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
BUDGET = 180.0  # seconds for the faults of a start
SYNC_BUDGET = 90.0  # seconds for those of a sync
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


def volumes(engine: docker.DockerClient) -> set[str]:
    return {volume.name for volume in engine.volumes.list()}


def test_fault_at_a_request_of_a_start_leaves_nothing(
    proxy: EngineProxy,
    engine: docker.DockerClient,
    dask_project: DaskProject,
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


def test_part_that_is_stopped_is_given_up_within_90_seconds(
    engine: docker.DockerClient,
    dask_project: DaskProject,
    tried: Callable[[str], None],
) -> None:
    """A worker and a scheduler of two clusters at once, as each takes a minute."""

    def sync_without(part: str) -> tuple[str, float]:
        session = open_session(python=dask_project.environment.python, quiet=True)
        with start(dask_project.reference, f"hostile-{part}") as cluster, Client(cluster) as user:
            user.wait_for_workers(1, timeout=90)
            assert cluster.scheduler is not None
            parts = {"worker": cluster.workers[0].container, "scheduler": cluster.scheduler.container}
            engine.api.pause(parts[part])
            began = time.monotonic()
            try:
                with pytest.raises(ImagesyncError) as caught:
                    imagesync.sync(user, session=session)
                seconds = time.monotonic() - began
            finally:
                engine.api.unpause(parts[part])
            # What was stopped goes on, and so does the cluster.
            assert imagesync.sync(user, session=session).comparison.matches
            return caught.value.message, seconds

    with dask_project.edited(10), ThreadPoolExecutor(2) as threads:
        for message, seconds in threads.map(sync_without, ("worker", "scheduler")):
            print(f"{seconds:.1f} s", message)  # for whoever reads of a failure
            assert re.match(r"The (worker \S+ hasn't answered for|scheduler (hasn't|doesn't)) ", message), (
                message
            )
            assert seconds < LONGEST
            tried("part of a cluster that is stopped: a sync gives up within 90 s")


class Trees:
    """An environment into which one package of an index comes in a new version each time."""

    def __init__(self, project: DaskProject, packages: LocalIndex) -> None:
        self._project, self._packages = project, packages
        self._numbers = itertools.count()

    def install(self) -> Session:
        """Install the next version, and return a session of the environment."""
        version = f"1.{next(self._numbers)}"
        self._packages.add_wheel("hazel", version)
        python = self._project.environment.python
        wanted = [f"hazel=={version}", "--index-url", self._packages.url, "--python", python]
        run([BIN / "uv", "-q", "pip", "install", *wanted])
        return open_session(python=python, quiet=True)


@pytest.mark.filterwarnings("ignore::imagesync.errors.MismatchWarning")
def test_fault_at_a_request_of_a_sync_is_made_good_or_named(
    dask_project: DaskProject,
    dask_cluster: ContainerCluster,
    tried: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    chance = random.Random()
    with (
        LocalIndex() as packages,
        RegistryProxy(packages.origin.removeprefix("http://")) as index,
        dask_cluster.client() as user,
    ):
        settings = {
            "PIP_INDEX_URL": f"http://{index.host}/simple",
            "PIP_RETRIES": "1",
            "UV_NO_CACHE": "1",
            "IMAGESYNC_TIMEOUT": "2",
            "IMAGESYNC_CACHE_DIR": str(tmp_path / "store"),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        trees = Trees(dask_project, packages)
        index.forget()
        assert imagesync.sync(user, session=trees.install()).sent == ("hazel",)
        many = len(index.requests)
        planned = [(number, fault) for number in range(many) for fault in {**FAULTS, **SLOW_FAULTS}]
        chance.shuffle(planned)
        end = time.monotonic() + SYNC_BUDGET
        for number, fault in planned:
            session = trees.install()
            index.forget()
            index.fail(Fault(".*", ".*", skip=number, **{**FAULTS, **SLOW_FAULTS}[fault]))
            began = time.monotonic()
            try:
                synced = imagesync.sync(user, session=session)
            except ImagesyncError as error:
                print(number, fault, error)  # for whoever reads of a failure
            else:
                assert "hazel" in (*synced.sent, *(package.name for package in synced.unsynced))
            assert time.monotonic() - began < LONGEST
            index.forget()
            assert imagesync.sync(user, session=session).comparison.matches
            tried(f"sync: {fault}")
            if time.monotonic() > end:
                break
        python = dask_project.environment.python
        run([BIN / "uv", "-q", "pip", "uninstall", "hazel", "--python", python])
        assert imagesync.sync(user, session=open_session(python=python, quiet=True)).comparison.matches
