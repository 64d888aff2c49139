"""conda's records that contradict one another, as --force leaves them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from packaging.utils import canonicalize_name

from imagesync.plan.checks.consistency import inconsistencies
from imagesync.scan.environment import CondaRecord, Environment, Finding, Package, Severity
from tests.plans import PYTHON


def record(
    name: str, version: str, *depends: str, build: str = "h0_0", constrains: tuple[str, ...] = ()
) -> CondaRecord:
    return CondaRecord(
        name, version, build, 0, "", "linux-64", "", "", depends=depends, constrains=constrains
    )


def messages(*records: CondaRecord, pip: tuple[str, ...] = (), replaced: bool = False) -> list[str]:
    packages = tuple(Package(canonicalize_name(name), "1.0") for name in pip)
    finding = Finding(Severity.WARNING, "pip-over-conda", "replaced")
    environment = Environment(PYTHON, packages, findings=(finding,) if replaced else (), conda=records)
    return [conflict.message for conflict in inconsistencies(environment)]


def test_unmet_dependency_of_a_conda_record_is_a_conflict() -> None:
    found = messages(
        record(
            "dask", "2022.1.0", "dask-core >=2022.1.0,<2022.1.1.0a0", "distributed >=2022.1.0,<2022.1.1.0a0"
        ),
        record("dask-core", "2022.1.0", "python >=3.7"),
        record("distributed", "2022.5.1", "dask-core >=2022.5.1,<2022.5.2.0a0"),
        record("python", "3.11.7", "__glibc >=2.17"),
    )
    assert found == [
        "dask 2022.1.0 requires distributed >=2022.1.0,<2022.1.1.0a0, and distributed 2022.5.1 is installed.",
        "distributed 2022.5.1 requires dask-core >=2022.5.1,<2022.5.2.0a0, "
        "and dask-core 2022.1.0 is installed.",
    ]


@pytest.mark.parametrize(
    ("version", "spec"),
    [
        ("3.11.7", "3.11.*"),
        ("3.11", "3.11.*"),
        ("3.11.7", ">=3.11,<3.12.0a0"),
        ("1.1.1w", ">=1.1.1v,<1.1.2a"),
        ("2025b", ""),
        ("2.0", "==2.0.0"),
        ("2.0", ">=1,!=1.5"),
        ("2.9.0.post0", ">=2.8.2,<3"),
        ("1.5", "<1.2|>1.4"),
        ("3.9.0", ">=3.9.0,<4.0a0 *openblas"),
    ],
)
def test_version_meets_match_spec(version: str, spec: str) -> None:
    build = "20_openblas" if "openblas" in spec else "h0_0"
    assert messages(record("one", "1", f"two {spec}".strip()), record("two", version, build=build)) == []


@pytest.mark.parametrize(
    ("version", "spec"),
    [
        ("3.12.1", "3.11.*"),
        ("3.12.0", ">=3.11,<3.12.0a0"),
        ("1.1.1u", ">=1.1.1v"),
        ("2.0.1", "==2.0"),
        ("1.5", "!=1.5"),
        ("2.9.0.post0", "==2.9.0"),
        ("1.3", "<1.2|>1.4"),
        ("3.9.0", ">=3.9.0 *mkl"),
    ],
)
def test_version_violates_match_spec(version: str, spec: str) -> None:
    (message,) = messages(record("one", "1", f"two {spec}"), record("two", version))
    assert message == f"one 1 requires two {spec}, and two {version} is installed."


def test_constraint_only_applies_to_installed_packages() -> None:
    one = record("one", "1", constrains=("two <2", "three <1"))
    assert messages(one) == []
    (message,) = messages(one, record("two", "2.5"))
    assert "requires two <2" in message


def test_dependency_that_pip_provides_is_not_missing() -> None:
    assert messages(record("one", "1", "two")) == ["one 1 requires two, and two isn't installed."]
    assert messages(record("one", "1", "two"), pip=("two",)) == []
    assert messages(record("one", "1", "msgpack-python"), pip=("msgpack",), replaced=True) == []


def test_consistent_environment_is_checked_without_importing_rattler() -> None:
    program = """
import sys
from imagesync.plan.checks.consistency import inconsistencies
from imagesync.scan.environment import CondaRecord, Environment, Interpreter
python = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "", "", "")
one = CondaRecord("one", "1", "0", 0, "", "", "", "", depends=("two >=1.2,<2.0a0", "three"))
two = CondaRecord("two", "1.26.4", "0", 0, "", "", "", "")
three = CondaRecord("three", "2025b", "0", 0, "", "", "", "")
assert inconsistencies(Environment(python, (), conda=(one, two, three))) == ()
assert "rattler" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
