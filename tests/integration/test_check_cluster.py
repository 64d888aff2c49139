"""Whether a cluster runs what its client runs: schedulers and workers in containers, and in this process."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from distributed import Client, LocalCluster, Security

import imagesync
from imagesync.cluster.agreement.check import check_async
from imagesync.cluster.agreement.members import inventory_of
from imagesync.errors import MismatchError, MismatchWarning, UsageError
from imagesync.inventory.comparison import Comparison, Group
from imagesync.session import Session
from imagesync.standalone.programs import Remote
from tests.commands import CommandLine
from tests.integration.dask_project import ContainerCluster, DaskProject, ip_address

pytestmark = pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")


@pytest.fixture(scope="module")
def cluster(dask_cluster: ContainerCluster) -> ContainerCluster:
    return dask_cluster


@pytest.fixture(scope="module")
def client(cluster: ContainerCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def differing(comparison: Comparison) -> list[str]:
    return [row.name for row in comparison.differences]


def test_cluster_of_the_environments_image_is_the_same(client: Client, session: Session) -> None:
    comparison = imagesync.check(client, session=session, strict=True)
    assert comparison.matches
    assert comparison.right == "scheduler and 2 workers"
    groups = {group: len(comparison.of(group)) for group in Group}
    assert groups.pop(Group.SAME) == len(comparison.rows)
    assert {row.name for row in comparison.rows} > {"python", "dask", "elder"}


def test_edited_code_is_found_by_its_content(
    client: Client, session: Session, dask_project: DaskProject
) -> None:
    with dask_project.edited(2):
        with pytest.warns(MismatchWarning, match=r"elder \(local code\): 1\.0 \w+ here, 1\.0 \w+ there"):
            comparison = imagesync.check(client, session=session)
        with pytest.raises(MismatchError, match="elder") as caught:
            imagesync.check(client, session=session, strict=True)
    assert differing(comparison) == ["elder"]
    assert not comparison.matches
    assert caught.value.hint is not None
    assert "imagesync.sync(client)" in caught.value.hint


def replace_in(container: docker.models.containers.Container, name: str, version: str) -> None:
    """Change a distribution in a container as somebody with root would, who installs another version."""
    found = container.exec_run(["sh", "-c", f"echo /opt/env/lib/python3.*/site-packages/{name}-*.dist-info"])
    before = Path(found.output.decode().strip())
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    after = before.parent / f"{name}-{version}.dist-info"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo(f"{after.name}/METADATA")
        entry.size = len(metadata)
        archive.addfile(entry, io.BytesIO(metadata))
    container.exec_run(["rm", "-r", str(before)], user="0")
    assert container.put_archive(str(before.parent), content.getvalue())


def test_version_changed_in_one_worker_is_found(
    client: Client, session: Session, cluster: ContainerCluster
) -> None:
    worker = cluster.workers[1]
    version_here = next(package.version for package in session.scan().packages if package.name == "toolz")
    replace_in(worker, "toolz", "0.12.0")
    try:
        with pytest.raises(MismatchError) as caught:
            imagesync.check(client, session=session, strict=True)
    finally:
        replace_in(worker, "toolz", version_here)
    assert f"0.12.0 (tcp://{ip_address(worker)}" in caught.value.message
    assert "toolz (critical)" in caught.value.message
    assert "restart_workers" in str(caught.value.hint)


def test_diff_asks_a_running_scheduler(dask_project: DaskProject, cluster: ContainerCluster) -> None:
    cli = dask_project.cli
    finished = cli("diff", "local", cluster.address, "--format", "json")
    assert finished.json()["groups"]["differs"] == 0
    assert finished.json()["right"] == cluster.address
    image = cli("diff", dask_project.reference, cluster.address, "--format", "json")
    assert image.json()["groups"]["same"] == len(image.json()["packages"])
    with dask_project.edited(2):
        table = cli.run("diff", cluster.address, "local")
    assert table.returncode == 1
    assert table.stdout.splitlines()[0] == "differs (1, of which 1 critical, exact, nearest or local code)"


def test_local_cluster_runs_what_the_client_runs() -> None:
    """Its workers run in the very folder that the client's packages are in: their code is the same."""
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as local, Client(local) as client:
        comparison = imagesync.check(client, strict=True)
    assert comparison.matches
    assert comparison.right == "scheduler and 1 worker"


def test_asynchronous_client_is_checked_by_check_async() -> None:
    async def main() -> Comparison:
        async with (
            LocalCluster(n_workers=1, processes=False, dashboard_address=None, asynchronous=True) as local,
            Client(local, asynchronous=True) as client,
        ):
            with pytest.raises(UsageError, match="asynchronous"):
                imagesync.check(client)
            return await check_async(client, strict=True)

    assert asyncio.run(main()).matches


def test_diff_with_a_tls_scheduler_needs_certificates(tmp_path: Path, cli: CommandLine) -> None:
    security = Security.temporary()
    options = []
    for option, role in (("ca-file", "tls_ca_file"), ("cert", "tls_client_cert"), ("key", "tls_client_key")):
        (tmp_path / f"{option}.pem").write_text(getattr(security, role))
        options += [f"--tls-{option}", tmp_path / f"{option}.pem"]
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address=None, security=security, protocol="tls"
    ) as local:
        address = local.scheduler_address
        assert address.startswith("tls://")
        finished = cli("diff", "local", address, *options, "--format", "json")
        assert finished.json()["matches"]
        refused = cli.run("diff", "local", address)
    assert refused.returncode == 2
    assert "--tls-ca-file" in refused.stderr


def test_worker_of_another_python_is_told_apart(find_python: Any, tmp_path: Path) -> None:
    """The question travels as text: pickled functions would not be readable there."""
    other = find_python("3.8")
    code = "import pickle, sys, json; print(json.dumps(pickle.loads(sys.stdin.buffer.read())()))"
    pickled = pickle.dumps(Remote("member_facts", "facts"))
    done = subprocess.run([other, "-I", "-c", code], input=pickled, capture_output=True, check=True)
    inventory = inventory_of(json.loads(done.stdout))
    assert inventory.by_key["python", "python"].version.startswith("3.8.")
