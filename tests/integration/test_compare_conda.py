"""Inventories of real conda environments, as this machine plans them and as a process in them says it."""

from __future__ import annotations

import json
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagesync.cluster.agreement.members import Facts, inventory_of
from imagesync.diff.sides import local_side
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Group, Side
from imagesync.session import open_session
from imagesync.standalone.programs import Remote
from tests.channels.environments import CondaEnvironment, make_conda_environment
from tests.commands import CommandLine
from tests.conftest import MakeCondaEnvironment


def environment_side(made: CondaEnvironment) -> Side:
    here = local_side(open_session(python=made.python, quiet=True))
    return Side("local", {"local": here.inventory})


def facts_of(python: Path) -> Facts:
    """Return what a process of that interpreter says of itself."""
    code = "import pickle, sys, json; print(json.dumps(pickle.loads(sys.stdin.buffer.read())()))"
    pickled = pickle.dumps(Remote("member_facts", "facts"))
    done = subprocess.run([python, "-I", "-c", code], input=pickled, capture_output=True, check=True)
    facts: Facts = json.loads(done.stdout)
    return facts


def conda_lock(records: list[dict[str, Any]]) -> dict[str, Any]:
    packages = [
        {
            **{key: record[key] for key in ("name", "version", "url")},
            "manager": "conda",
            "platform": "linux-64",
            "dependencies": {},
            "category": "main",
            "optional": False,
            "hash": {"md5": record.get("md5"), "sha256": record["sha256"]},
        }
        for record in records
    ]
    metadata = {
        "content_hash": {"linux-64": "x"},
        "channels": [],
        "platforms": ["linux-64"],
        "sources": ["environment.yml"],
    }
    return {"version": 1, "metadata": metadata, "package": packages}


def pixi_lock(records: list[dict[str, Any]]) -> dict[str, Any]:
    default = {
        "channels": [],
        "packages": {"linux-64": [{"conda": record["url"]} for record in records]},
    }
    # The URLs of a folder's channel don't tell the platform.
    packages = [
        {"conda": each["url"], "sha256": each["sha256"], "subdir": each["subdir"]} for each in records
    ]
    return {"version": 6, "environments": {"default": default}, "packages": packages}


@pytest.fixture(scope="module")
def orchard(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> CondaEnvironment:
    """Return an environment that nobody changes."""
    specs = ("python", "dask", "libbeacon", "orchard-suite")
    return make_conda_environment(channel, specs, tmp_path_factory.mktemp("conda") / "orchard")


def test_process_in_a_conda_environment_says_what_was_planned(orchard: CondaEnvironment) -> None:
    there = inventory_of(facts_of(orchard.python))
    left, right = environment_side(orchard), Side("there", {"there": there})
    comparison = compare(left, right)
    rows = {(row.name, row.kind): row for row in comparison.rows}
    assert rows["libbeacon", "conda"].group is Group.SAME
    assert rows["libbeacon", "conda"].left[0].build
    assert rows["numpy", "distribution"].group is Group.SAME
    assert rows["numpy", "distribution"].left == rows["numpy", "distribution"].right
    assert rows["orchard-tools", "distribution"].group is Group.SAME
    assert ("orchard-suite", "conda") not in rows, sorted(rows)
    assert rows["python", "python"].group is Group.SAME
    assert not [row for row in comparison.rows if row.counts]
    assert not comparison.of(Group.DIFFERS)


def test_pip_over_conda_in_one_process_is_found(conda_environment: MakeCondaEnvironment) -> None:
    made = conda_environment("python", "dask")
    left = environment_side(made)
    made.install("--no-deps", "toolz==0.12.0")
    comparison = compare(left, Side("there", {"there": inventory_of(facts_of(made.python))}))
    assert [row.name for row in comparison.of(Group.DIFFERS)] == ["toolz"]
    assert not comparison.matches


def test_diff_of_two_conda_environments(cli: CommandLine, conda_environment: MakeCondaEnvironment) -> None:
    one = conda_environment("python", "toolz", "trellis=1.4.1", name="one")
    other = conda_environment("python", "toolz", "trellis", name="other")
    finished = cli.run("diff", one.prefix, other.prefix, "--format", "json")
    differing = {
        package["name"]: (package["left"][0]["version"], package["right"][0]["version"])
        for package in finished.json()["packages"]
        if package["group"] != "same"
    }
    assert set(differing) == {"trellis"}
    assert differing["trellis"][0] == "1.4.1"


@pytest.mark.parametrize("name", ["conda-lock.yml", "pixi.lock"])
def test_environment_is_the_same_as_a_lock_of_it_by_another_tool(
    name: str, cli: CommandLine, orchard: CondaEnvironment, tmp_path: Path
) -> None:
    records = [json.loads(path.read_text()) for path in (orchard.prefix / "conda-meta").glob("*.json")]
    lock = tmp_path / name
    lock.write_text(yaml.safe_dump(conda_lock(records) if name == "conda-lock.yml" else pixi_lock(records)))
    at = cli.with_environ(CONDA_PREFIX=orchard.prefix)
    finished = at.run("diff", "local", lock, "--format", "json")
    assert finished.stdout, finished.stderr
    odd = [row["name"] for row in finished.json()["packages"] if row["group"] != "same"]
    assert (finished.returncode, odd) == (0, [])
