"""Environment hashes that are remembered, and which deviations an image that is found has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.pipeline.known_hashes import KnownHash, joined_deviations, recall_hash, remember_hash
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import Interpreter

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
PLAN = Plan(
    python=PYTHON,
    packages=(PlannedPackage(canonicalize_name("toolz"), "1.1.0", Level.COMPATIBLE, "", ""),),
    conda=(PlannedConda("libblas", "3.9.0", "20_mkl", Level.EXACT, "", ""),),
)


def deviation(name: str, local: str, locked: str, manager: str = "pip") -> dict[str, Any]:
    texts = {"name": name, "local": local, "locked": locked, "reason": "", "manager": manager}
    return {**texts, "level": "compatible"}


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        "text",
        [],
        ["sha256:1", 5, "", []],
        ["sha256:1", [{"name": "toolz"}], "", []],
        ["sha256:1", ["toolz"], "", []],
        ["sha256:1", [{**deviation("toolz", "1", "2"), "name": ["toolz"]}], "", []],
        [None, [], "", []],
    ],
)
def test_damaged_entry_is_as_good_as_none(tmp_path: Path, damaged: object) -> None:
    remember_hash(tmp_path, "sha256:inputs", KnownHash("sha256:1"))
    (path,) = (path for path in tmp_path.rglob("*.json"))
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "content": damaged}))
    assert recall_hash(tmp_path, "sha256:inputs") is None
    remember_hash(tmp_path, "sha256:inputs", KnownHash("sha256:1"))
    assert recall_hash(tmp_path, "sha256:inputs") == KnownHash("sha256:1")


def test_hash_is_remembered_with_its_deviations(tmp_path: Path) -> None:
    known = KnownHash("sha256:" + "1" * 64, (deviation("toolz", "1.1.0", "1.1.1"),), "", ("toolz",))
    assert recall_hash(tmp_path, "sha256:inputs") is None
    remember_hash(tmp_path, "sha256:inputs", known)
    assert recall_hash(tmp_path, "sha256:inputs") == known
    assert recall_hash(tmp_path, "sha256:others") is None
    other = KnownHash("sha256:" + "2" * 64)
    remember_hash(tmp_path, "sha256:inputs", other)
    assert recall_hash(tmp_path, "sha256:inputs") == other


def test_deviation_of_another_environment_counts_only_where_its_local_version_is_installed_here() -> None:
    here = [deviation("toolz", "1.1.0", "1.1.1"), deviation("libblas", "3.9.0 20_mkl", "3.9.0 1", "conda")]
    there = [deviation("toolz", "1.0.0", "1.1.1"), deviation("libblas", "3.8.0 1", "3.9.0 1", "conda")]
    assert joined_deviations(here, (), PLAN) == tuple(here)
    assert joined_deviations(there, (), PLAN) == ()
    edited_there = deviation("toolz", "1.1.0", "1.1.0")
    assert joined_deviations([edited_there], (), PLAN) == ()
    assert joined_deviations([], [edited_there], PLAN) == (edited_there,)


def test_deviation_of_another_build_counts_only_where_that_build_is_installed() -> None:
    there = deviation("libblas", "3.9.0 1_openblas", "3.9.0 20_mkl", "conda")
    assert joined_deviations([there], (), PLAN) == ()


def test_package_that_is_not_installed_here_was_neither_left_out_nor_changed() -> None:
    left_out, changed = deviation("appnope", "0.1", "", "conda"), deviation("colorama", "0.3", "0.4")
    new = deviation("greenlet", "", "3.0")
    assert joined_deviations([left_out, changed, new], (), PLAN) == (new,)
    # What is installed here and not wanted in the image isn't new.
    plan = replace(PLAN, left_out=(LeftOut("greenlet", "2.0", Level.IGNORE, ""),))
    other = deviation("greenlet", "2.0", "3.0")
    assert joined_deviations([new], (), plan) == ()
    assert joined_deviations([other], (), plan) == (other,)


def test_known_deviation_replaces_that_in_the_label() -> None:
    known = {**deviation("toolz", "1.1.0", "1.1.1"), "reason": "as of now"}
    labelled = {**known, "reason": "as it was"}
    assert joined_deviations([labelled], [known], PLAN) == (known,)
    assert joined_deviations([], [known], PLAN) == (known,)
