"""docs/json.md: its tables have the keys that the code writes, and its examples those of the tables."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imagesync.cli.doctor_checks import Check
from imagesync.cluster.cleanup import FoundCluster
from imagesync.core.names import Level, canonical_name
from imagesync.core.platforms import LINUX_AMD64
from imagesync.image.built_image import Image
from imagesync.image.image_report import ImageReport, ReportLayer
from imagesync.inventory.comparison import Comparison, Group, Row, State
from imagesync.inventory.inventory import Entry, Inventory
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.differences import Difference
from imagesync.plan.loose_code import Code, CodePath
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import CondaRecord, Environment, Finding, Interpreter, Package, Severity
from imagesync.scan.modifications.modification import Modification
from imagesync.store.prune import Total, Usage

TEXT = (Path(__file__).parents[3] / "docs" / "json.md").read_text("utf-8")

NAME = canonical_name("toolz")
PYTHON = Interpreter("cpython", "3.11.2", "linux-x86_64", "cp311", "/bin/python", "/", "/")
PACKAGE = Package(NAME, "1.0")
RECORD = CondaRecord("toolz", "1.0", "0", 0, "https://x.example", "noarch", "toolz-1.0-0.conda", "")
FINDING = Finding(Severity.ERROR, "shadowed", "message")
PLANNED = PlannedPackage(NAME, "1.0", Level.EXACT, "==1.0", "why")
PLANNED_CONDA = PlannedConda("toolz", "1.0", "0", Level.EXACT, "==1.0", "why")
LEFT_OUT = LeftOut("toolz", "1.0", Level.IGNORE, "why")
CODE = Code((CodePath("/code", "", (), ""),))
ARTIFACT = Artifact("toolz.whl", "https://x.example", "sha256:0", 1)
LOCKED = LockedPackage(NAME, "1.0", ARTIFACT)
LOCKED_CONDA = LockedConda("toolz", "1.0", "0", "https://x.example", "noarch", ARTIFACT)
VENDORED = VendoredPackage(NAME, "1.0", "sha256:0", PLANNED)
DEVIATION = Deviation("toolz", "1.0", "2.0", Level.NEAREST, "why")
TARGET = Target(LINUX_AMD64, "3.11.2", (2, 36))
LOCK = Lock(TARGET, (LOCKED,), (VENDORED,), (DEVIATION,), conda=(LOCKED_CONDA,))
STATE = State("1.0")
ROW = Row("toolz", "distribution", Group.SAME, Level.EXACT, (STATE,), (STATE,))
TOTAL = Total(1, 1)
IMAGE = Image("x:1", "", "", "", cached=True)
LAYER = ReportLayer("sha256:0", 1, "base", "")
REPORT = ImageReport("x:1", "", "", "", "", "", "", "", "", (LAYER,), None, ())

# By section and the lead of the table in it.
TABLES: dict[tuple[str, str], dict[str, Any]] = {
    ("Scan", ""): Environment(PYTHON, ()).to_dict(),
    ("Scan", "`python`:"): PYTHON.to_dict(),
    ("Scan", "An entry of `packages`:"): PACKAGE.to_dict(),
    ("Scan", "An entry of `conda`, read from the environment's own records:"): RECORD.to_dict(),
    ("Plan", ""): Plan(PYTHON, ()).to_dict(),
    ("Plan", "An entry of `packages`:"): PLANNED.to_dict(),
    ("Plan", "An entry of `conda`:"): PLANNED_CONDA.to_dict(),
    ("Plan", "An entry of `left_out`:"): LEFT_OUT.to_dict(),
    ("Plan", "`code`:"): CODE.to_dict(),
    ("Lock", ""): LOCK.to_dict(),
    ("Lock", "An entry of `conda`:"): LOCKED_CONDA.to_dict(),
    ("Lock", "`artifact`:"): ARTIFACT.to_dict(),
    ("Lock", "An entry of `vendored`:"): VENDORED.to_dict(),
    ("Lock", "An entry of `deviations`:"): DEVIATION.to_dict(),
    ("Check", ""): Difference("toolz", "pip", "1.0", "2.0", "why").to_dict(),
    ("Cache", ""): {**Usage(Path(), TOTAL, TOTAL, TOTAL).to_dict(), "layout": {}, "build_environments": {}},
    ("Build", ""): replace(IMAGE, images={LINUX_AMD64.name: IMAGE}).to_dict(),
    ("Inspect", ""): REPORT.to_dict(),
    ("Inspect", "An entry of `layers`:"): REPORT.to_dict()["layers"][0],
    ("Diff", ""): Comparison("a", "b", (ROW,)).to_dict(),
    ("Diff", "An entry of `packages`:"): ROW.to_dict(),
    ("Diff", "An entry of `left` or `right`:"): STATE.to_dict(),
    ("Inventory", ""): Inventory("linux-x86_64", ()).to_dict(),
    ("Inventory", "An entry of `packages`:"): dict.fromkeys(field.name for field in fields(Entry)),
    ("Clusters", "`ls` gives a list, by name:"): FoundCluster("a", "b", None, "", "", 0).to_dict(),
    ("Doctor", ""): Check("index", "ok", "message").to_dict(),
}
# By section, what an example's objects must look like; the first entry of a list stands for all.
EXAMPLES: dict[str, dict[str, Any]] = {
    "Scan": Environment(PYTHON, (PACKAGE,), (FINDING,), conda=(RECORD,)).to_dict(),
    "Plan": Plan(PYTHON, (PLANNED,), (LEFT_OUT,), (FINDING,), code=CODE, conda=(PLANNED_CONDA,)).to_dict(),
    "Lock": LOCK.to_dict(),
}
FREE = ("markers", "source", "files", "left_out", "edited", "added")
"""Keys whose objects have other keys from case to case."""


def documented_tables() -> dict[tuple[str, str], list[str]]:
    """Return the keys of each table, by section and the paragraph before the table if it introduces it."""
    tables: dict[tuple[str, str], list[str]] = {}
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        title = re.match(r"\w+", section)
        assert title is not None
        blocks = section.split("\n\n")
        for before, block in pairwise(blocks):
            if re.match(r"\| [Kk]ey \| [Tt]ype \|", block):
                lead = before if before.endswith(":") else ""
                names = [
                    name
                    for cell in re.findall(r"^\| (`.*?) \|", block, re.MULTILINE)
                    for name in re.findall(r"`(\w+)`", cell)
                ]
                assert (title[0], lead) not in tables
                tables[title[0], lead] = names
    return tables


@pytest.mark.parametrize("place", TABLES, ids=" ".join)
def test_table_has_the_keys_of_the_json(place: tuple[str, str]) -> None:
    documented = documented_tables()[place]
    assert sorted(documented) == sorted(TABLES[place])


def test_every_table_is_compared_with_the_code() -> None:
    assert set(documented_tables()) == set(TABLES)


@pytest.mark.parametrize("section", EXAMPLES)
def test_example_has_the_keys_of_the_json(section: str) -> None:
    part = TEXT.partition(f"\n## {section}:")[2].partition("\n## ")[0]
    (example,) = re.findall(r"^```json\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    differing = list(differences(json.loads(example), EXAMPLES[section], section))
    assert differing == []


def differences(example: Any, sample: Any, place: str) -> list[str]:
    """Return the places where the keys of an example aren't those of the sample."""
    if isinstance(example, list):
        first = sample[0] if isinstance(sample, list) and sample else None
        return (
            [line for entry in example for line in differences(entry, first, f"{place}[]")] if first else []
        )
    if not isinstance(example, dict) or not isinstance(sample, dict):
        return []
    wrong = [f"{place}: {key}" for key in sorted(example.keys() ^ sample.keys())]
    both = [key for key in example if key in sample and key not in FREE]
    return wrong + [line for key in both for line in differences(example[key], sample[key], f"{place}.{key}")]


def test_keys_of_a_modification_are_named_with_its_key() -> None:
    row = re.search(r"^\| `modification` \|.*$", TEXT, re.MULTILINE)
    assert row is not None
    keys = {field.name for field in fields(Modification)} - {"manager", "name"}
    assert keys <= set(re.findall(r"`(\w+)`", row[0]))
