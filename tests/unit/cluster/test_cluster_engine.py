"""An engine of a cluster that doesn't answer, or takes too long."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from imagesync.cluster import cluster_engine, own_container
from imagesync.cluster.cluster_engine import ClusterEngine
from imagesync.cluster.cluster_plan import ClusterPlan
from imagesync.engine.endpoint import Endpoint
from imagesync.errors import ClusterError, EngineError


def test_worker_whose_scheduler_has_no_address_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_engine, "START_TIMEOUT", 0.01)
    engine = ClusterEngine(Endpoint("unix:///nowhere", "here"), ClusterPlan("elm", "image", None))
    with pytest.raises(ClusterError, match="The scheduler's container hasn't started within 0 s"):
        engine._await_scheduler_host()


def test_engine_that_ends_while_it_is_asked_for_this_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(f"/docker/containers/{'0' * 64}/hostname /etc/hostname")
    (tmp_path / "marker").touch()
    monkeypatch.setattr(own_container, "_SOURCES", (str(tmp_path / "mountinfo"),))
    monkeypatch.setattr(own_container, "_MARKERS", (str(tmp_path / "marker"),))
    api = docker.APIClient("tcp://127.0.0.1:1", version="1.41")
    with pytest.raises(EngineError, match="failed to describe this process's container"):
        own_container.join_network(api, "elm")
