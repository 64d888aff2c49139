from __future__ import annotations

import io
from dataclasses import replace

import pytest
from packaging.utils import canonicalize_name

from imagesync.cli.plan import print_plan
from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_ARM64
from imagesync.plan.plan import LeftOut, Plan, PlannedPackage
from imagesync.scan.environment import Finding, Interpreter, Severity, Source

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
LEFTOVER = Finding(
    Severity.WARNING,
    "interrupted-uninstall",
    "an uninstall left this behind",
    "/env/~ame",
    hint="rm -r '/env/~ame'",
)
CONFLICT = Finding(
    Severity.ERROR, "conflict", "dask needs pandas>=2, which is not installed", hint="pip install pandas"
)


def planned(name: str, level: Level, *, source: Source | None = None) -> PlannedPackage:
    return PlannedPackage(canonicalize_name(name), "1.2.3", level, "==1.2.3", "as it is", source or Source())


@pytest.mark.parametrize("profile", ["none", "dask"])
def test_only_a_profile_speaks_of_a_cluster(profile: str) -> None:
    stream = io.StringIO()
    print_plan(Plan(PYTHON, packages=(planned("demo", Level.CRITICAL),), profile=profile), stream=stream)
    assert ("the cluster doesn't work with another version" in stream.getvalue()) is (profile != "none")
    assert "critical (1): " in stream.getvalue()


def test_plan_lists_levels_from_the_closest_then_left_out_then_findings() -> None:
    plan = Plan(
        PYTHON,
        packages=(
            planned("numpy", Level.COMPATIBLE),
            planned("dask", Level.CRITICAL),
            planned("lz4", Level.NEAREST),
            planned("mine", Level.EXACT, source=Source("directory", url="file:///m", editable=True)),
        ),
        left_out=(LeftOut(canonicalize_name("pywin32"), "306", Level.PLATFORM_ONLY, "only for Windows"),),
        findings=(LEFTOVER, CONFLICT),
        apt=("git", "libgomp1"),
        profile="dask",
    )
    stream = io.StringIO()
    print_plan(plan, stream=stream)
    text = stream.getvalue()
    marks = [
        "critical (1)",
        "exact (1): this version or no image",
        "nearest (1)",
        "compatible (1)",
        "left out",
        "conflict",
        "interrupted-uninstall",
        "profile",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "pywin32  306      platform-only  only for Windows" in text
    assert "mine     1.2.3  ==1.2.3       editable  as it is" in text
    assert "system packages: git libgomp1" in text
    assert text.endswith(
        "target linux/amd64, Python 3.11, profile dask\n4 packages, 1 left out, 2 findings\n"
    )


def test_remarks_are_counted_apart_from_findings_because_the_short_plan_has_none() -> None:
    remark = Finding(Severity.INFO, "system-program", "gitpython uses git")
    stream = io.StringIO()
    print_plan(Plan(PYTHON, (planned("demo", Level.EXACT),), findings=(LEFTOVER, remark)), stream=stream)
    assert stream.getvalue().endswith("\n1 package, 0 left out, 1 finding, 1 remark\n")


def test_plans_of_two_platforms_say_once_what_they_share() -> None:
    shared = planned("dask", Level.CRITICAL)
    amd64 = Plan(PYTHON, (shared, planned("numpy", Level.NEAREST)), findings=(LEFTOVER,))
    numpy = replace(planned("numpy", Level.NEAREST), reason="another one")
    arm64 = Plan(PYTHON, (shared, numpy), findings=(LEFTOVER, CONFLICT), platform=LINUX_ARM64)
    stream = io.StringIO()
    print_plan(amd64, arm64, stream=stream)
    text = stream.getvalue()
    marks = ("critical (1)", "nearest (1)", "interrupted-uninstall")
    assert [text.count(mark) for mark in marks] == [1, 2, 1]
    ordered = [
        "\n1 finding\n",
        "linux/amd64: nearest (1)",
        "linux/arm64: nearest (1)",
        "linux/arm64: 1 finding\n",
        "target linux/amd64 and linux/arm64, Python 3.11, profile none\n",
        "linux/amd64: 2 packages, 0 left out, 1 finding\n",
        "linux/arm64: 2 packages, 0 left out, 2 findings\n",
    ]
    positions = [text.index(mark) for mark in ordered]
    assert positions == sorted(positions)
