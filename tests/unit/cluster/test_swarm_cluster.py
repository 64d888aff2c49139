"""What services of a swarm can't have or be called is refused before an engine is asked."""

from __future__ import annotations

from typing import Any

import pytest

import imagesync
from imagesync.cluster.container_options import Machine, WorkerOptions
from imagesync.cluster.swarm_cluster import _check_group
from imagesync.cluster.worker_groups import make_groups
from imagesync.errors import UsageError


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"name": "a.b"}, id="cluster"),
        pytest.param({"name": "elm", "groups": {"a.b": {}}}, id="group"),
        pytest.param({"name": "elm", "groups": {"a" * 40: {}}}, id="long"),
    ],
)
def test_name_that_no_service_can_have(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="A swarm can't have a service called imagesync-"):
        imagesync.SwarmCluster("image", **options)


@pytest.mark.parametrize("options", [{"docker": {"cap_add": ["SYS_PTRACE"]}}, {"gpus": "all"}])
def test_option_of_a_group_that_no_service_can_have(options: dict[str, Any]) -> None:
    groups = make_groups({"big": options}, machine=Machine(4, 2**33), worker=WorkerOptions())
    with pytest.raises(UsageError, match="big"):
        _check_group("big", groups["big"][1])
