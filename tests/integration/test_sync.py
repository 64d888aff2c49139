"""``imagesync.sync``: what has changed since the image reaches a running cluster."""

from __future__ import annotations

import importlib
import secrets
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import docker
import pytest
from distributed import Client

import imagesync
from imagesync.cluster.agreement import liveness
from imagesync.cluster.agreement.synced import Synced
from imagesync.errors import ClusterError, MismatchWarning
from imagesync.session import Session
from tests.commands import BIN
from tests.environments import run
from tests.integration.dask_project import ContainerCluster, DaskProject, ip_address, remove

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]
NUMBERS = [1, 2, 3]


@pytest.fixture(scope="module")
def cluster(dask_cluster: ContainerCluster) -> ContainerCluster:
    return dask_cluster


@pytest.fixture
def client(cluster: ContainerCluster, session: Session) -> Iterator[Client]:
    """Give a client of a cluster that has what its image has."""
    with cluster.client() as client:
        yield client
        client.cancel(list(client.futures), force=True)
        assert imagesync.sync(client, session=session).comparison.matches


@pytest.fixture
def elder(dask_project: DaskProject, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the project's module as this process has it; on the cluster its functions go by name."""
    monkeypatch.syspath_prepend(dask_project.folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("elder")
    del sys.modules["elder"]


def picked(client: Client, elder: ModuleType) -> list[int]:
    results: list[int] = client.gather(client.map(elder.pick, NUMBERS, pure=False))
    return results


def test_edit_reaches_processes_that_have_imported_it(
    client: Client, session: Session, dask_project: DaskProject, elder: ModuleType
) -> None:
    assert picked(client, elder) == NUMBERS
    kept = client.submit(elder.pick, 4)
    assert kept.result() == 4
    before = set(client.scheduler_info()["workers"])
    with dask_project.edited(10):
        synced = imagesync.sync(client, session=session)
        assert synced.sent == ("elder",)
        assert (synced.restarted, synced.unsynced, synced.remarks) == ((), (), ())
        assert picked(client, elder) == [10, 20, 30]
        assert imagesync.check(client, session=session, strict=True).matches
        assert set(client.scheduler_info()["workers"]) == before
        assert kept.result() == 4, "what is in memory stays"


def test_edit_back_to_what_the_image_has(
    client: Client, session: Session, dask_project: DaskProject, elder: ModuleType
) -> None:
    with dask_project.edited(10):
        imagesync.sync(client, session=session)
        assert picked(client, elder) == [10, 20, 30]
    synced = imagesync.sync(client, session=session)
    assert synced.sent == ()
    assert str(synced) == "Nothing to send."
    assert picked(client, elder) == NUMBERS


def test_new_worker_and_what_its_tasks_start_have_it_too(
    client: Client, session: Session, dask_project: DaskProject, cluster: ContainerCluster, elder: ModuleType
) -> None:
    def in_a_process_of_its_own() -> str:
        command = [sys.executable, "-c", "import elder; print(elder.pick(1))"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with dask_project.edited(10):
        imagesync.sync(client, session=session)
        cluster.add_workers(1)
        client.wait_for_workers(len(cluster.workers), timeout=90)
        assert set(client.run(in_a_process_of_its_own).values()) == {"10"}
        (new,) = [
            address for address in client.run(elder.pick, 1) if ip_address(cluster.workers[-1]) in address
        ]
        assert client.submit(elder.pick, 1, workers=[new], pure=False).result() == 10
        assert imagesync.check(client, session=session, strict=True).matches
    remove(cluster.workers.pop())


def test_worker_that_holds_objects_of_old_classes_is_started_again(
    client: Client, session: Session, dask_project: DaskProject, elder: ModuleType
) -> None:
    basket = client.submit(elder.fill, 1)
    assert client.submit(elder.count, basket).result() == 1
    (holder,) = client.who_has(basket)[basket.key]
    with dask_project.edited(10):
        synced = imagesync.sync(client, session=session)
        assert synced.restarted == (holder,)
        assert synced.comparison.matches
        assert picked(client, elder) == [10, 20, 30]
        # It was lost, and is computed again, by the code that it was submitted with or by the new one.
        assert client.submit(elder.count, basket, pure=False).result() in (1, 10)


def test_data_that_cannot_be_computed_again_is_not_lost(
    client: Client, session: Session, dask_project: DaskProject, elder: ModuleType
) -> None:
    (holder, *_) = client.scheduler_info()["workers"]
    scattered = client.scatter(elder.Basket(1), workers=[holder])
    assert client.submit(elder.count, scattered).result() == 1
    with dask_project.edited(10):
        with pytest.warns(MismatchWarning, match="elder"):
            synced = imagesync.sync(client, session=session)
        assert synced.restarted == ()
        assert "1 piece of data that can't be recomputed" in " ".join(synced.remarks)
        assert f"Still with old modules of elder: {holder} (objects of its classes are in memory: 1)." in str(
            synced
        )
        assert client.submit(elder.count, scattered, pure=False).result() == 1
        assert not synced.comparison.matches, "one worker runs the old code, and that is said"
        forced = imagesync.sync(client, session=session, restart=True)
        assert forced.restarted == (holder,)
        assert forced.comparison.matches


def install(dask_project: DaskProject, *arguments: str) -> None:
    run([BIN / "uv", "-q", "pip", *arguments, "--python", dask_project.environment.python])


def test_added_package_and_another_version(
    client: Client, session: Session, dask_project: DaskProject
) -> None:
    def versions() -> tuple[str, str, bool]:
        from importlib.metadata import version

        import iniconfig

        return version("iniconfig"), version("locket"), iniconfig.__file__.startswith("/home/imagesync/")

    (before,) = [package.version for package in session.scan().packages if package.name == "locket"]
    install(dask_project, "install", "iniconfig==2.0.0", "locket==0.2.1")
    try:
        synced = imagesync.sync(client, session=session)
        assert synced.sent == ("iniconfig", "locket")
        assert set(client.run(versions).values()) == {("2.0.0", "0.2.1", True)}
        assert synced.comparison.matches
        assert not synced.comparison.differences
    finally:
        install(dask_project, "uninstall", "iniconfig")
        install(dask_project, "install", f"locket=={before}")


def test_what_the_cluster_runs_on_is_not_replaced(
    client: Client, session: Session, dask_project: DaskProject
) -> None:
    (before,) = [package.version for package in session.scan().packages if package.name == "toolz"]
    install(dask_project, "install", "toolz==0.12.1")
    try:
        with pytest.warns(MismatchWarning, match="toolz"):
            synced = imagesync.sync(client, session=session)
    finally:
        install(dask_project, "install", f"toolz=={before}")
    assert synced.sent == ()
    assert [one.name for one in synced.unsynced] == ["toolz"]
    assert "a scheduler can't be restarted" in str(synced)
    assert "imagesync build" in str(synced)


def test_loose_code_is_synced_with_its_data_files(client: Client, session: Session, tmp_path: Path) -> None:
    def read() -> str:
        import hedge

        return (__import__("pathlib").Path(hedge.__file__).with_name("seed.txt")).read_text() + hedge.kind

    (tmp_path / "hedge").mkdir()
    (tmp_path / "hedge" / "__init__.py").write_text("kind = 'beech'\n")
    (tmp_path / "hedge" / "seed.txt").write_text("a ")
    settings = replace(session.context.settings, code=(tmp_path,))
    with_code = replace(session, context=replace(session.context, settings=settings))
    synced = imagesync.sync(client, session=with_code)
    assert synced.sent == ("(loose code)",)
    assert set(client.run(read).values()) == {"a beech"}
    assert imagesync.check(client, session=with_code, strict=True).matches
    (tmp_path / "hedge" / "__init__.py").write_text("kind = 'box'\n")
    assert imagesync.sync(client, session=with_code).comparison.matches
    assert set(client.run(read).values()) == {"a box"}


def test_wheel_that_cannot_be_built_changes_nothing(
    client: Client, session: Session, dask_project: DaskProject, elder: ModuleType
) -> None:
    project = dask_project.folder / "pyproject.toml"
    text = project.read_text()
    project.write_text(text.replace("flit_core.buildapi", "flit_core.nothing"))
    try:
        with pytest.raises(imagesync.ImagesyncError, match=r"elder 1\.0: no wheel can be built"):
            imagesync.sync(client, session=session)
    finally:
        project.write_text(text)
    assert picked(client, elder) == NUMBERS
    assert imagesync.check(client, session=session, strict=True).matches


def test_worker_that_nobody_starts_again_is_named(
    engine: docker.DockerClient, dask_project: DaskProject, session: Session, elder: ModuleType
) -> None:
    with ContainerCluster(engine, dask_project.reference, f"sync-{secrets.token_hex(4)}") as cluster:
        cluster.add_workers(1, "--no-nanny")
        with cluster.client() as client, dask_project.edited(10), warnings.catch_warnings():
            warnings.simplefilter("ignore", MismatchWarning)
            basket = client.submit(elder.fill, 1)
            basket.result()
            synced: Synced = imagesync.sync(client, session=session)
            assert synced.restarted == ()
            assert "Still with old modules of elder" in str(synced)
            assert not synced.comparison.matches
            del basket


def test_cluster_syncs_itself_and_starts_its_workers_again(
    dask_project: DaskProject, session: Session, elder: ModuleType
) -> None:
    with (
        imagesync.DockerCluster(
            image=dask_project.reference, n_workers=2, nthreads=1, session=session, check=False
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        dask_project.edited(10),
    ):
        client.wait_for_workers(2, timeout=90)
        basket = client.submit(elder.fill, 1)
        assert client.submit(elder.count, basket).result() == 1
        holder = client.who_has(basket)[basket.key]
        synced = cluster.sync()
        assert synced.sent == ("elder",)
        assert synced.restarted == tuple(holder)
        assert cluster.check(strict=True).matches
        assert picked(client, elder) == [10, 20, 30]
        assert cluster.sync(client.scheduler.identity)["type"] == "Scheduler", "Dask's own method"


def test_worker_is_not_restarted_that_tasks_are_pinned_to(
    client: Client, session: Session, dask_project: DaskProject, elder: ModuleType
) -> None:
    (holder, *_) = client.scheduler_info()["workers"]
    basket = client.submit(elder.fill, 1, workers=[holder])
    assert client.submit(elder.count, basket).result() == 1
    with dask_project.edited(10):
        with pytest.warns(MismatchWarning, match="elder"):
            synced = imagesync.sync(client, session=session)
        assert synced.restarted == ()
        assert "1 task may run on these workers alone, by workers=" in str(synced)
        assert client.submit(elder.count, basket, pure=False).result() == 1
        del basket


def test_worker_and_scheduler_that_are_stopped_are_named(
    engine: docker.DockerClient,
    dask_project: DaskProject,
    session: Session,
    elder: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        imagesync.DockerCluster(
            image=dask_project.reference, n_workers=2, nthreads=1, session=session, check=False
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        dask_project.edited(10),
    ):
        client.wait_for_workers(2, timeout=90)
        assert cluster.scheduler is not None
        addresses = {each["name"]: address for address, each in client.scheduler_info()["workers"].items()}
        stopped = {
            f"The worker {addresses[0]} hasn't answered": cluster.workers[0].container,
            "The scheduler hasn't answered": cluster.scheduler.container,
        }
        for message, container in stopped.items():
            engine.api.pause(container)
            try:
                with monkeypatch.context() as hurried:
                    hurried.setattr(liveness, "EVERY", 1.0)
                    hurried.setattr(liveness, "PATIENCE", 8.0)
                    with pytest.raises(ClusterError) as caught:
                        imagesync.sync(client, session=session)
            finally:
                engine.api.unpause(container)
            assert message in caught.value.message
        assert imagesync.sync(client, session=session).comparison.matches
        assert picked(client, elder) == [10, 20, 30]
