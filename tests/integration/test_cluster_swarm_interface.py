"""What Dask documents of its clusters, on ``SwarmCluster``: ten rows of the table in docs/clusters.md."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import docker
import pytest

import imagesync
from tests.integration.dask_project import DaskProject
from tests.integration.single_swarm import single_swarm
from tests.integration.test_cluster_interface import (  # noqa: F401  collected here, too
    MEMORY,
    client,
    test_adapting_with_each_argument,
    test_attributes,
    test_client_of_a_cluster,
    test_data_moves_between_workers,
    test_functions_files_and_plugins_on_all_members,
    test_logs,
    test_repr_and_html_say_what_runs,
    test_restart_of_all_workers_and_of_some,
    test_scaling_with_each_argument,
    test_sync_runs_coroutines,
)

pytestmark = [
    pytest.mark.engine,
    # The patch level of this process's Python isn't the image's.
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]


@pytest.fixture(scope="module")
def cluster(dask_project: DaskProject, engine: docker.DockerClient) -> Iterator[imagesync.SwarmCluster]:
    """Return a cluster of two workers for all tests of this module, with a dashboard."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        single_swarm(engine),
        imagesync.SwarmCluster(
            dask_project.reference,
            n_workers=2,
            threads_per_worker=1,
            memory_limit=MEMORY,
            dashboard_address=f":{port}",
            check=False,
        ) as cluster,
    ):
        yield cluster
