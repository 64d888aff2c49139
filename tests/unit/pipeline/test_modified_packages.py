"""Changed packages in a plan: shipped as they are installed, or named, by the setting ``modified``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.errors import DeviationError, PlanError
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Group, Side
from imagesync.inventory.inventory import local_inventory
from imagesync.lock.make_lock import modification_deviations
from imagesync.pipeline.modified_packages import plan_modifications, refuse_modifications
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import CondaRecord, Environment, Package, Source
from imagesync.scan.modifications.modification import Modification, Modifications, Unowned
from imagesync.settings.model import Settings
from tests.plans import PYTHON

EDITED = Modification("toolz", "pip", {"toolz/a.py": "00"})
SHIP, INDEX, ERROR = Settings(), Settings(modified="index"), Settings(modified="error")


def package(**changes: object) -> Package:
    values: dict[str, object] = {
        "location": "/env/site-packages",
        "metadata_path": "/env/site-packages/toolz-1.0.0.dist-info",
        "purelib": True,
        "has_record": True,
        "tags": ("py3-none-any",),
    }
    name = canonicalize_name("toolz")
    return Package(name=name, version="1.0.0", **{**values, **changes})  # type: ignore[arg-type]


def plan_of(installed: Package, *, strict: bool = False) -> Plan:
    entry = PlannedPackage(
        installed.name,
        installed.version,
        Level.COMPATIBLE,
        "~=1.0.0",
        "",
        installed.source,
        installed=installed,
    )
    return Plan(PYTHON, (entry,), strict=strict)


def planned(
    installed: Package,
    modification: Modification = EDITED,
    settings: Settings = SHIP,
    *,
    strict: bool = False,
) -> Plan:
    environment = Environment(PYTHON, (installed,))
    plan = plan_of(installed, strict=strict)
    return plan_modifications(plan, environment, Modifications((modification,)), settings)


def test_changed_package_of_an_index_is_shipped_as_installed() -> None:
    plan = planned(package(), strict=True)
    (entry,) = plan.packages
    assert (entry.as_installed, entry.vendored, entry.specifier) == (True, True, "==1.0.0")
    assert plan.modified == {"pip/toolz": EDITED.digest}
    (finding,) = plan.findings
    assert finding.code == "modified"
    assert "toolz/a.py was edited; the image gets it as it is here" in finding.message
    assert "--force-reinstall --no-deps toolz==1.0.0" in (finding.hint or "")
    assert list(modification_deviations(plan)) == []
    refuse_modifications(plan, SHIP)


@pytest.mark.parametrize(
    ("installed", "modification", "settings"),
    [
        (package(), EDITED, INDEX),
        (package(purelib=False, tags=("cp311-cp311-macosx_14_0_arm64",)), EDITED, SHIP),
        (package(tags=()), EDITED, SHIP),
        (package(), Modification("toolz", "pip", {"../bin/t": "0"}, {}, (), ("../bin/t",)), SHIP),
    ],
    ids=["index", "another platform", "no tags", "generated command"],
)
def test_change_that_the_image_does_not_get_is_a_deviation(
    installed: Package, modification: Modification, settings: Settings
) -> None:
    python = replace(PYTHON, platform="macosx-14.0-arm64") if not installed.purelib else PYTHON
    environment = Environment(python, (installed,))
    plan = plan_modifications(
        replace(plan_of(installed), python=python), environment, Modifications((modification,)), settings
    )
    (entry,) = plan.packages
    assert not entry.as_installed
    (deviation,) = modification_deviations(plan)
    assert (deviation.name, deviation.local, deviation.locked) == ("toolz", "1.0.0", "1.0.0")
    assert "was edited" in deviation.reason
    refuse_modifications(plan, settings)
    with pytest.raises(DeviationError, match="toolz"):
        refuse_modifications(replace(plan, strict=True), settings)


def test_package_whose_metadata_has_no_name_is_not_shipped() -> None:
    installed = package(has_identity=False)
    environment = Environment(PYTHON, (installed,))
    plan = plan_modifications(plan_of(installed), environment, Modifications((EDITED,)), SHIP)
    assert not plan.packages[0].as_installed
    (deviation,) = modification_deviations(plan)
    assert deviation.name == "toolz"


def test_package_from_a_folder_is_shipped_as_installed_once_it_was_changed() -> None:
    source = Source("directory", url="file:///project")
    (entry,) = planned(package(source=source)).packages
    assert (entry.as_installed, "installed files were changed" in entry.reason) == (True, True)
    plan = planned(package(source=source), settings=INDEX)
    assert "the image gets what its source has" in plan.findings[0].message
    assert len(list(modification_deviations(plan))) == 1


def test_setting_error_refuses_a_changed_package() -> None:
    plan = planned(package(), settings=ERROR)
    with pytest.raises(PlanError, match="was edited"):
        refuse_modifications(plan, ERROR)
    refuse_modifications(plan_of(package()), ERROR)


def test_files_of_no_package_are_findings() -> None:
    environment = Environment(PYTHON, (package(),))
    unowned = (Unowned("/env/own.pth", "pth"), Unowned("/env/share/own/a.csv"))
    plan = plan_modifications(plan_of(package()), environment, Modifications(unowned=unowned), SHIP)
    assert [finding.code for finding in plan.findings] == ["startup-code", "files-unowned"]
    assert plan.modified == {}


def record(build: str = "py_0") -> CondaRecord:
    return CondaRecord("toolz", "1.0.0", build, 0, "", "noarch", "", "", distributions=("toolz",))  # type: ignore[arg-type]


def conda_plan(prefix: Path, *, files: Mapping[str, bytes]) -> tuple[Plan, Environment]:
    """Return the plan of a conda package with *files* beside its distribution."""
    import json

    site = prefix / "lib/python3.11/site-packages"
    dist_info = site / "toolz-1.0.0.dist-info"
    dist_info.mkdir(parents=True)
    (dist_info / "RECORD").write_text("toolz/a.py,sha256=AA,1\ntoolz-1.0.0.dist-info/RECORD,,\n")
    listed = ["lib/python3.11/site-packages/toolz/a.py", *files]
    (prefix / "conda-meta").mkdir()
    paths = [{"_path": path, "path_type": "hardlink"} for path in listed]
    document = {"files": listed, "paths_data": {"paths": paths}}
    (prefix / "conda-meta/toolz-1.0.0-py_0.json").write_text(json.dumps(document))
    provided = package(manager="conda", conda="toolz", location=str(site), metadata_path=str(dist_info))
    python = replace(PYTHON, prefix=str(prefix))
    entry = PlannedConda("toolz", "1.0.0", "py_0", Level.COMPATIBLE, "~=1.0.0", "", record=record())
    plan = Plan(python, (), conda=(entry,), provided=(provided,))
    return plan, Environment(python, (provided,), conda=(record(),))


CONDA_EDITED = Modifications(
    (Modification("toolz", "conda", {"lib/python3.11/site-packages/toolz/a.py": "00"}),), {"toolz": EDITED}
)


def test_changed_conda_package_of_python_files_counts_as_one_that_pip_has_replaced(tmp_path: Path) -> None:
    plan, environment = conda_plan(tmp_path, files={})
    changed = plan_modifications(plan, environment, CONDA_EDITED, SHIP)
    assert changed.conda == ()
    assert changed.provided == ()
    assert changed.replaced == (record(),)
    (entry,) = changed.packages
    assert (entry.name, entry.as_installed, entry.specifier) == ("toolz", True, "==1.0.0")
    assert entry.installed is not None
    assert entry.installed.manager == "pip"
    assert list(modification_deviations(changed)) == []
    (finding,) = changed.findings
    assert "conda install --force-reinstall toolz=1.0.0=py_0" in (finding.hint or "")


def test_changed_conda_package_with_other_files_is_a_deviation(tmp_path: Path) -> None:
    plan, environment = conda_plan(tmp_path, files={"lib/libtoolz.so": b""})
    changed = plan_modifications(plan, environment, CONDA_EDITED, SHIP)
    assert [entry.name for entry in changed.conda] == ["toolz"]
    (deviation,) = modification_deviations(changed)
    assert deviation.manager == "conda"
    (finding,) = changed.findings
    assert "the image gets it unchanged" in finding.message
    assert "conda install --force-reinstall toolz=1.0.0=py_0" in (finding.hint or "")


def test_changed_package_differs_from_an_unchanged_one_in_a_comparison() -> None:
    for settings in (SHIP, INDEX):
        changed = planned(package(), settings=settings)
        digests = {p.name: "sha256:1" for p in changed.packages if p.as_installed}
        left = Side("local", {"local": local_inventory(changed, digests)})
        right = Side("image", {"image": local_inventory(plan_of(package()), {})})
        (row,) = compare(left, right).rows
        assert row.group is Group.DIFFERS
        assert "changed here: toolz/a.py was edited" in row.notes
        assert compare(left, left).rows[0].group is Group.SAME
