"""Options of groups of workers, as a user gives them."""

from __future__ import annotations

from typing import Any

import pytest

from imagesync.cluster.container_options import Machine, WorkerOptions
from imagesync.cluster.engine_options import make_engine_options
from imagesync.cluster.worker_groups import make_groups
from imagesync.errors import UsageError

MACHINE = Machine(cpus=4, memory=8 * 2**30)


def group(**options: Any) -> tuple[int, WorkerOptions]:
    worker = WorkerOptions(environment={"A": "1"}, resources={"disk": 1})
    return make_groups({"big": options}, machine=MACHINE, worker=worker)["big"]


@pytest.mark.parametrize("name", ["a b", "a/b", "../a", "", "12", "-a", "a" * 41, 1])
def test_name_of_a_group_is_valid_in_names_of_containers(name: Any) -> None:
    with pytest.raises(UsageError, match="can't be called"):
        make_groups({name: {}}, machine=MACHINE, worker=WorkerOptions())


@pytest.mark.parametrize(
    "option", ["network_mode", "auto_remove", "mounts", "port_bindings", "restart_policy", "nonsense"]
)
def test_no_group_has_an_option_that_is_the_clusters_own_or_unknown(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        group(docker={option: []})
    with pytest.raises(UsageError, match=option):
        make_engine_options(docker={option: []})


def test_group_adds_to_the_options_of_the_other_workers() -> None:
    count, worker = group(environment={"B": "2"}, docker={"cap_add": ["SYS_PTRACE"]}, memory_limit="1GiB")
    assert (count, worker.memory_limit) == (1, 2**30)
    assert worker.environment == {"A": "1", "B": "2"}
    assert worker.resources == {"disk": 1}
    assert worker.engine.docker == {"cap_add": ["SYS_PTRACE"]}


def test_none_is_as_good_as_an_option_that_is_left_out() -> None:
    _, worker = group(environment=None, mounts=None, resources=None)
    assert (worker.environment, worker.mounts, worker.resources) == ({"A": "1"}, (), {"disk": 1})


def test_unknown_option_of_a_group_is_named() -> None:
    with pytest.raises(UsageError, match="threads_of_each"):
        group(threads_of_each=2)
