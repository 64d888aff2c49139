"""Consistency: the same answer as ``pip check``, from real environments."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.plan.checks.consistency import Conflict, inconsistencies
from imagesync.scan.environment import Environment, Interpreter, Package, Severity
from tests.environments import make_environment
from tests.plans import PYTHON


def package(name: str, version: str, *requires: str, requires_python: str | None = None) -> Package:
    return Package(canonicalize_name(name), version, requires=requires, requires_python=requires_python)


def conflicts(*packages: Package, python: Interpreter = PYTHON) -> tuple[Conflict, ...]:
    return inconsistencies(Environment(python, tuple(sorted(packages, key=lambda each: each.name))))


@pytest.mark.parametrize(
    ("requires", "version"),
    [
        ("b", "1.0"),
        ("b>=1,<2", "1.5"),
        ("B (>=1.0)", "1.5"),
        ("b[extra]>=1", "1.5"),
        ("b>=1; python_version >= '3.12'", "0.5"),
        ("b>=2; extra == 'test'", "0.5"),
        ('b>=2 ; sys_platform == "win32"', "0.5"),
        ("b>=1", "2.0rc1"),
        ("b==2.1.0", "2.1.0+cu121"),
        ("b===2004d-final", "2004d-final"),
        ("b @ https://example.com/b.whl", "1.0"),
        ("b not a requirement", "1.0"),
    ],
)
def test_met_requirement_is_no_conflict(requires: str, version: str) -> None:
    assert conflicts(package("a", "1.0", requires), package("b", version)) == ()


@pytest.mark.parametrize(
    "requires",
    [
        "b>=2",
        "b (>=2)",
        "B[extra] >=2",
        "b>=2; python_version < '3.12'",
        "b~=2.0",
        "b>=2; extra == 'x' or os_name == 'posix'",
    ],
)
def test_unmet_requirement_is_a_conflict(requires: str) -> None:
    (conflict,) = conflicts(package("a", "1.0", requires), package("b", "1.5"), package("pip", "25.0"))
    assert (conflict.package, conflict.required, conflict.installed) == ("a", "b", "1.5")
    assert conflict.remedy.startswith("/env/bin/python -m pip install ")


def test_message_of_a_conflict_names_requirer_requirement_and_installed_version() -> None:
    (missing,) = conflicts(package("a", "1.0", "Missing_One>=2"))
    assert missing.message == "a 1.0 requires Missing_One>=2, and missing-one isn't installed."
    finding = missing.to_finding()
    assert (finding.severity, finding.code, finding.package) == (Severity.ERROR, "inconsistent", "a")
    (wrong,) = conflicts(package("a", "1.0", "b>=2"), package("b", "1.5"))
    assert wrong.message == "a 1.0 requires b>=2, and b 1.5 is installed."


def test_remedy_installs_a_version_that_all_requirers_accept() -> None:
    found = conflicts(package("a", "1.0", "b>=2"), package("c", "1.0", "b<3,>=1"), package("b", "1.5"))
    assert [conflict.remedy for conflict in found] == ["uv pip install --python /env/bin/python 'b<3,>=2'"]


def test_remedy_upgrades_requirers_without_a_common_version() -> None:
    found = conflicts(package("a", "1.0", "b>=2"), package("c", "1.0", "b<2"), package("b", "1.5"))
    assert [conflict.remedy for conflict in found] == [
        "uv pip install --python /env/bin/python --upgrade a c"
    ]


def test_package_for_another_python_is_a_conflict() -> None:
    (conflict,) = conflicts(package("a", "1.0", requires_python=">=3.12"))
    assert conflict.message == "a 1.0 requires python>=3.12, and python 3.11.7 is installed."
    assert conflicts(package("a", "1.0", requires_python=">=3.8, <4")) == ()
    assert conflicts(package("a", "1.0", requires_python="three")) == ()


def test_markers_are_evaluated_for_the_environment() -> None:
    a = package("a", "1.0", 'b; sys_platform == "darwin"')
    assert conflicts(a) == ()
    assert len(conflicts(a, python=replace(PYTHON, platform="macosx-14.0-arm64"))) == 1


def test_common_shapes_of_fifteen_hundred_requirements_are_met() -> None:
    kinds = ("{}>=1.0", "{}>=1.0,<9; python_version < '3.14'", "{}[x]~=1.0", "{}; extra == 'test'", "{}")
    known = [f"package-{number}" for number in range(150)]
    packages = [
        package(name, "1.5.0", *(kinds[j % 5].format(known[(i + j) % 150]) for j in range(10)))
        for i, name in enumerate(known)
    ]
    assert conflicts(*packages) == ()


WHEELS = {
    "app": (
        "1.0",
        ["lib>=2", "gone", "Mixed.Name~=1.2", "extra-only; extra == 'x'", "other; os_name == 'nt'"],
    ),
    "lib": ("1.9", ["mixed-name[fast]!=1.2.5", "lib-pre>=2"]),
    "mixed_name": ("1.2.5", ["app<2", "also-gone (>=1,<2) ; python_version >= '3.8'"]),
    "lib_pre": ("2.1rc1", []),
    "label": ("2.1.0+cu121", ["label-user"]),
    "label_user": ("1.0.post1", ["label==2.1.0", "label>2.1.0", "lib-pre<2.1"]),
}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip, and packages that contradict one another."""
    prefix = tmp_path_factory.mktemp("consistency") / "env"
    make_environment(prefix, python=sys.executable, installer="pip")
    for name, (version, requires) in WHEELS.items():
        folder = site_packages(prefix) / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        (folder / "RECORD").write_text("")
    return prefix


def site_packages(prefix: Path) -> Path:
    return next(prefix.glob("lib/python3*/site-packages"))


def read_environment(prefix: Path) -> Environment:
    found = importlib.metadata.distributions(path=[str(site_packages(prefix))])
    packages = [package(each.name, each.version, *(each.requires or ())) for each in found]
    version = ".".join(map(str, sys.version_info[:3]))
    python = replace(PYTHON, version=version, executable=str(prefix / "bin/python"))
    return Environment(python, tuple(sorted(packages, key=lambda each: each.name)))


def test_conflicts_are_those_of_pip_check(prefix: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(prefix / "bin/python")]
    command = [*pip, "check", "--disable-pip-version-check"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1, answer.stderr
    # "app 1.0 requires gone, which is not installed.", "app 1.0 has requirement lib>=2, but ..."
    line = re.compile(r"(\S+) \S+ (?:requires|has requirement) ([A-Za-z0-9._-]*[A-Za-z0-9])")
    expected = {
        (canonicalize_name(match[1]), canonicalize_name(match[2]))
        for match in map(line.match, answer.stdout.splitlines())
        if match
    }
    assert len(expected) == len(answer.stdout.splitlines())
    found = inconsistencies(read_environment(prefix))
    assert {(conflict.package, conflict.required) for conflict in found} == expected
