from __future__ import annotations

import io
import re

import pytest
from packaging.utils import canonicalize_name

from imagesync.cli.errors import print_deviations, print_error, print_findings
from imagesync.cli.tables import print_environment, print_lock, print_plan
from imagesync.core.names import Level
from imagesync.errors import UsageError
from imagesync.lock.lock import Artifact, Deviation, Lock, LockedPackage, Target, VendoredPackage
from imagesync.plan.plan import LeftOut, Plan, PlannedPackage
from imagesync.scan.environment import (
    CondaRecord,
    Environment,
    Finding,
    Interpreter,
    Package,
    Severity,
    Source,
)
from tests.terminals import on_terminal

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
FORGE = "https://conda.anaconda.org/conda-forge"
NUMPY = canonicalize_name("numpy")
MINE = canonicalize_name("mine")
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
DEVIATION = Deviation(NUMPY, "1.26.5", "1.26.4", Level.COMPATIBLE, "1.26.5 has no file for the target")


def shown(printer: object, value: object) -> str:
    stream = io.StringIO()
    assert callable(printer)
    printer(value, stream)
    return stream.getvalue()


def environment(*packages: Package, findings: tuple[Finding, ...] = ()) -> Environment:
    return Environment(PYTHON, packages, findings)


def conda_record(name: str, distribution: str = "", channel: str = FORGE) -> CondaRecord:
    names = (canonicalize_name(distribution),) if distribution else ()
    filename = f"{name}-1.0-0.conda"
    return CondaRecord(
        name, "1.0", "0", 0, channel, "noarch", filename, "", requested_spec="dask>=1", distributions=names
    )


def planned(name: str, level: Level, *, source: Source | None = None) -> PlannedPackage:
    return PlannedPackage(canonicalize_name(name), "1.2.3", level, "==1.2.3", "as it is", source or Source())


def test_conda_packages_stand_above_those_of_pip() -> None:
    records = (conda_record("dask"), conda_record("dask-core", "dask"), conda_record("six", "six"))
    packages = (Package(canonicalize_name("dask"), "1.0", "conda", conda="dask-core"), Package(MINE, "0.1"))
    text = shown(print_environment, Environment(PYTHON, packages, conda=records, channels=(FORGE,)))
    assert text == (
        "cpython 3.11.7 (linux-x86_64) in /env\n"
        "  conda package  version  build  requested  channel      distributions\n"
        "  dask           1.0      0      dask>=1    conda-forge\n"
        "  dask-core      1.0      0      dask>=1    conda-forge  dask\n"
        "  six            1.0      0      dask>=1    conda-forge\n"
        "\n"
        "from pip\n"
        "  package  version  manager  requested  source\n"
        "  mine     0.1      pip      -          index\n"
        f"channels: {FORGE}\n"
        "3 conda packages, 1 from pip\n"
    )


def test_nothing_is_said_of_pip_where_all_is_condas() -> None:
    other = "https://mirror.example.com/conda-forge"
    records = (conda_record("dask"), conda_record("six", channel=other))
    text = shown(print_environment, Environment(PYTHON, (), conda=records, channels=(FORGE, other)))
    assert "\nfrom pip\n" not in text
    assert f"  dask           1.0      0      dask>=1    {FORGE}" in text
    assert text.endswith(f"channels: {FORGE} {other}\n2 conda packages, 0 from pip\n")


def test_environment_is_aligned_text_when_piped() -> None:
    editable = Source("directory", url="file:///home/me/mine", editable=True)
    text = shown(
        print_environment,
        environment(
            Package(MINE, "0.1", source=editable),
            Package(NUMPY, "1.26.4", requested=True),
            findings=(LEFTOVER,),
        ),
    )
    assert text == (
        "cpython 3.11.7 (linux-x86_64) in /env\n"
        "  package  version  manager  requested  source\n"
        "  mine     0.1      pip      -          editable directory file:///home/me/mine\n"
        "  numpy    1.26.4   pip      yes        index\n"
        "2 packages, 1 from directories\n"
        "\n"
        "1 finding\n"
        "  warning  interrupted-uninstall  an uninstall left this behind (/env/~ame) -> rm -r '/env/~ame'\n"
    )


def test_nothing_is_cut_and_wide_characters_keep_the_columns() -> None:
    long = "x" * 400
    text = shown(
        print_environment,
        environment(
            Package(NUMPY, "1", source=Source("archive", url=f"https://example.com/{long}")),
            Package(canonicalize_name("日本"), "1"),
        ),
    )
    assert long in text
    header, first, second = text.splitlines()[1:4]
    assert first.index("1 ") == header.index("version")
    # Each of the two characters takes two cells of a terminal, so the version comes two characters earlier.
    assert second.index("1 ") == header.index("version") - 2


def test_names_from_outside_reach_no_terminal_raw() -> None:
    text = shown(
        print_environment, environment(Package(canonicalize_name("[red]a\x1b[31m\u202eb"), "1\r2\udcff"))
    )
    assert "[red]a\\u202eb  1\\r2\\udcff" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e\ud800-\udfff]", text)


def test_stream_that_cannot_encode_gets_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_environment(environment(Package(canonicalize_name("ü"), "1")), stream)
    assert b"\\xfc" in raw.getvalue()


def test_empty_environment() -> None:
    assert shown(print_environment, environment()).splitlines() == [
        "cpython 3.11.7 (linux-x86_64) in /env",
        "0 packages",
    ]


def test_plan_goes_from_closest_to_left_out_to_findings() -> None:
    plan = Plan(
        PYTHON,
        packages=(
            planned("numpy", Level.COMPATIBLE),
            planned("dask", Level.CRITICAL),
            planned("lz4", Level.EXACT),
            planned("mine", Level.EXACT, source=Source("directory", url="file:///m", editable=True)),
        ),
        left_out=(LeftOut(canonicalize_name("pywin32"), "306", Level.PLATFORM_ONLY, "only for Windows"),),
        findings=(LEFTOVER, CONFLICT),
        apt=("git", "libgomp1"),
        profile="dask",
    )
    text = shown(print_plan, plan)
    marks = [
        "critical (1)",
        "exact (2)",
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
        "target linux/amd64, Python 3.11: profile dask, 4 packages, 1 left out, 2 findings\n"
    )


def test_lock_shows_deviations_above_the_rest() -> None:
    local = planned("mine", Level.EXACT, source=Source("directory", url="file:///m"))
    lock = Lock(
        Target("linux/amd64", "3.11.2", (2, 36)),
        packages=(
            LockedPackage(
                NUMPY, "1.26.4", Artifact("numpy-1.26.4.whl", "https://e/n", "sha256:00", 18_300_000)
            ),
            LockedPackage(
                canonicalize_name("six"), "1.17", Artifact("six.whl", "https://e/s", "sha256:01", None)
            ),
        ),
        vendored=(VendoredPackage(MINE, "1.2.3", "sha256:02", local),),
        deviations=(DEVIATION,),
    )
    text = shown(print_lock, lock)
    assert text.startswith("1 deviation from the local environment\n")
    assert "  numpy    1.26.5  1.26.4        compatible  1.26.5 has no file for the target\n" in text
    assert "  numpy    1.26.4   18.3 MB  numpy-1.26.4.whl\n" in text
    assert "  mine     1.2.3    directory file:///m\n" in text
    assert "3 packages, at least 18.3 MB from indexes, 1 deviation\n" in text
    assert text.endswith(f"lock {lock.digest}\n")


SHOW = """
from imagesync.scan.environment import *
from imagesync.cli.tables import print_environment
python = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "", "/env", "/usr")
source = Source("directory", url="file:///home/me/" + "long/" * 20, editable=True)
packages = (Package("[red]evil[/red]", "1.0", source=source), Package("numpy", "1.26.4"))
print_environment(Environment(python, packages, (Finding(Severity.ERROR, "c", "bad [bold]news"),)))
"""


@pytest.mark.parametrize("columns", [200, 100, 60, 30, 12])
def test_terminal_of_any_width_shows_all_of_it(columns: int) -> None:
    code, out = on_terminal(SHOW, columns=columns)
    assert code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", out)
    together = re.sub(r"\s", "", text)
    assert "[red]evil[/red]" in together
    assert "bad[bold]news" in together
    assert together.count("long/") == 20
    rows = [line for line in text.splitlines() if "long/" in line]
    assert max(len(line.rstrip()) for line in rows) <= columns


def test_terminal_shows_colours_unless_told_not_to() -> None:
    assert "\x1b[31m" in on_terminal(SHOW, columns=100)[1]
    assert "\x1b[31m" not in on_terminal(SHOW, columns=100, environ={"NO_COLOR": "1"})[1]
    assert "\x1b" not in on_terminal(SHOW, columns=100, environ={"TERM": "dumb"})[1]


def test_error_and_hint_are_two_lines() -> None:
    stream = io.StringIO()
    print_error(UsageError("No such \x1b[31mlevel", hint="Use exact."), stream)
    assert stream.getvalue() == "error: No such level\nhint: Use exact.\n"


def test_error_keeps_the_lines_of_a_log() -> None:
    stream = io.StringIO()
    print_error(UsageError("Step 3 failed:\n  line one\n  line two"), stream)
    assert stream.getvalue() == "error: Step 3 failed:\n  line one\n  line two\n"


def test_findings_and_deviations_are_lines() -> None:
    stream = io.StringIO()
    print_findings((LEFTOVER, CONFLICT), stream)
    print_deviations((DEVIATION,), stream)
    assert stream.getvalue() == (
        "warning: an uninstall left this behind (/env/~ame)\n"
        "hint: rm -r '/env/~ame'\n"
        "error: dask needs pandas>=2, which is not installed\n"
        "hint: pip install pandas\n"
        "warning: numpy is 1.26.5 here and 1.26.4 in the image: 1.26.5 has no file for the target\n"
    )
