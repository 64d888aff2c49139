from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesync.core.limits import LABEL
from imagesync.core.names import Level, canonical_name
from imagesync.core.platforms import LINUX_AMD64
from imagesync.diff.sides import read_inventory
from imagesync.inventory.inventory import (
    LOOSE_CODE,
    Entry,
    Inventory,
    from_text,
    image_inventory,
    local_inventory,
    to_json,
    to_text,
)
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.plan.plan import LeftOut, Plan, PlannedPackage
from imagesync.scan.environment import Interpreter, Package, Source

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
OWN = Source("directory", url="file:///home/me/elder", editable=True)
CONTENT = "sha256:" + "c" * 64
TARGET = Target(LINUX_AMD64, "3.11.2", (2, 36))


def planned(
    name: str, version: str, level: Level, specifier: str, source: Source | None = None
) -> PlannedPackage:
    source = source or Source()
    package = Package(canonical_name(name), version, source=source)
    return PlannedPackage(
        canonical_name(name),
        version,
        level,
        specifier,
        "",
        source,
        installed=None if name == "python" else package,
    )


@pytest.fixture
def plan() -> Plan:
    return Plan(
        python=PYTHON,
        packages=(
            planned("alder", "1.4.3", Level.COMPATIBLE, "~=1.4.3"),
            planned("elder", "0.1", Level.COMPATIBLE, "==0.1", OWN),
            planned("python", "3.11.7", Level.CRITICAL, "==3.11.*"),
        ),
        left_out=(LeftOut(canonical_name("pip"), "26.0", Level.IGNORE, "It has no use there."),),
    )


@pytest.fixture
def lock(plan: Plan) -> Lock:
    artifact = Artifact(
        "alder-1.4.4-py3-none-any.whl", "https://me:secret@example.com/alder", "sha256:" + "a" * 64
    )
    own = plan.packages[1]
    return Lock(
        TARGET,
        (LockedPackage(canonical_name("alder"), "1.4.4", artifact),),
        (VendoredPackage(own.name, "0.2.dev1", CONTENT, own),),
        (Deviation(canonical_name("alder"), "1.4.3", "1.4.4", Level.COMPATIBLE, "1.4.3 is gone"),),
    )


def test_local_inventory_contains_packages_left_out_of_the_image(plan: Plan) -> None:
    inventory = local_inventory(plan, {canonical_name("elder"): CONTENT})
    assert inventory.platform == "linux-x86_64"
    assert [(entry.name, entry.left_out) for entry in inventory.entries] == [
        ("alder", False),
        ("elder", False),
        ("pip", True),
        ("python", False),
    ]
    assert inventory.by_key["elder", "distribution"].content == CONTENT


def test_image_inventory_has_locked_versions_and_planned_levels(plan: Plan, lock: Lock) -> None:
    inventory = image_inventory(plan, lock, environment_hash="sha256:" + "e" * 64)
    entries = inventory.by_key
    assert inventory.platform == "linux-x86_64"
    assert entries["alder", "distribution"] == Entry(
        "alder", "1.4.4", level=Level.COMPATIBLE, specifier="~=1.4.3", reason="1.4.3 is gone"
    )
    own = entries["elder", "distribution"]
    assert (own.version, own.content, own.local) == ("0.2.dev1", CONTENT, True)
    python = entries["python", "python"]
    assert (python.version, python.level, python.specifier) == ("3.11.2", Level.CRITICAL, "==3.11.*")


def test_image_inventory_contains_no_urls_and_no_paths(plan: Plan, lock: Lock) -> None:
    text = to_json(image_inventory(plan, lock, environment_hash="sha256:" + "e" * 64))
    assert "secret" not in text
    assert "/home/me" not in text
    assert "://" not in text


def test_inventory_of_a_json_lock_equals_that_of_its_image(plan: Plan, lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(json.dumps(lock.to_dict()))
    read = read_inventory(tmp_path / "lock.json").by_key
    made = image_inventory(plan, lock, environment_hash="").by_key
    assert read.keys() == made.keys()
    for key, entry in read.items():
        assert (entry.version, entry.content, entry.local, entry.reason) == (
            made[key].version,
            made[key].content,
            made[key].local,
            made[key].reason,
        )
    # A lock has no levels: the shipped ones hold.
    assert read["python", "python"].specifier == "==3.11.*"


def test_inventory_file_of_an_image_can_be_read(plan: Plan, lock: Lock, tmp_path: Path) -> None:
    inventory = image_inventory(plan, lock, environment_hash="sha256:" + "e" * 64)
    (tmp_path / "environment.json").write_text(to_json(inventory))
    assert read_inventory(tmp_path / "environment.json") == inventory


names = st.text(st.characters(codec="utf-8"), min_size=1)
entries = st.builds(
    Entry,
    name=names,
    version=st.text(),
    kind=st.sampled_from(["python", "distribution", "conda", "code"]),
    manager=st.sampled_from(["", "pip", "conda"]),
    level=st.none() | st.sampled_from(Level),
    specifier=st.text(),
    content=st.text(),
    local=st.booleans(),
    build=st.text(),
    left_out=st.booleans(),
    reason=st.text(),
)


@given(
    st.builds(
        Inventory, st.text(), st.lists(entries, unique_by=lambda entry: entry.key).map(tuple), st.text()
    )
)
def test_inventory_survives_the_round_trip_through_a_label(inventory: Inventory) -> None:
    assert from_text(to_text(inventory)) == inventory


@pytest.mark.parametrize("text", ["", "e30=", "not base64", "eJyrrgUAAXUA+Q=="])
def test_invalid_label_gives_no_inventory(text: str) -> None:
    assert from_text(text) is None


def test_entry_ignores_keys_of_later_versions() -> None:
    assert Entry.from_dict({"name": LOOSE_CODE, "version": "", "smell": "sweet"}) == Entry(LOOSE_CODE, "")


def test_label_that_expands_beyond_its_bound_is_none(plan: Plan) -> None:
    text = json.dumps(local_inventory(plan, {}).to_dict())
    assert from_text(compressed(text)) is not None
    assert from_text(compressed(text + " " * LABEL)) is None


def compressed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
