"""Commands and settings that a message offers: each must be one that its reader can take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.plan.install_commands import levels_that_help
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.environment import Interpreter
from imagesync.scan.pip_commands import Installer


def planned(name: str, level: Level) -> PlannedPackage:
    return PlannedPackage(canonicalize_name(name), "1.0", level, "==1.0", "for a test")


def interpreter(prefix: Path, base: Path | None = None) -> Interpreter:
    base = base or prefix
    return Interpreter(
        "cpython", "3.11.2", "linux-x86_64", "cp311", f"{prefix}/bin/python3", str(prefix), str(base)
    )


def test_whoever_set_nearest_is_not_told_to_set_it_again() -> None:
    hint = levels_that_help([planned("perf", Level.NEAREST)])
    assert 'levels = { perf = "ignore" }' in hint
    assert "nearest" not in hint


def test_no_level_loosens_a_package_of_a_strict_plan() -> None:
    hint = levels_that_help([replace(planned("perf", Level.EXACT), strict=True)])
    assert 'levels = { perf = "ignore" }' in hint
    assert "nearest" not in hint


def test_a_level_that_limits_is_loosened() -> None:
    hint = levels_that_help([planned("one", Level.COMPATIBLE), planned("two", Level.NEAREST)])
    assert 'levels = { one = "nearest" }' in hint
    assert 'levels = { two = "ignore" }' in hint


def test_a_critical_package_is_loosened_only_by_a_remedy_that_works() -> None:
    dask = planned("dask", Level.CRITICAL)
    assert levels_that_help([dask]) == ""
    assert 'levels = { dask = "nearest" }' in levels_that_help([dask], loosen_critical=True)


@pytest.fixture
def managed(tmp_path: Path) -> Path:
    folder = tmp_path / "usr" / "lib" / "python3.11"
    folder.mkdir(parents=True)
    (folder / "EXTERNALLY-MANAGED").touch()
    return tmp_path / "usr"


def test_externally_managed_python_is_not_installed_into(managed: Path) -> None:
    python = interpreter(managed)
    assert Installer(python, has_pip=True).install(["dask==2026.8.0"]) == (
        f"{managed}/bin/python3 -m venv --system-site-packages .venv"
        " && .venv/bin/python -m pip install dask==2026.8.0"
    )
    assert Installer(python, has_pip=False).install(["dask"]) == (
        f"uv venv --python {managed}/bin/python3 --system-site-packages .venv"
        " && uv pip install --python .venv dask"
    )


def test_virtual_environment_of_such_a_python_is(managed: Path, tmp_path: Path) -> None:
    command = Installer(interpreter(tmp_path / "env", managed), has_pip=True).install(["dask"])
    assert command == f"{tmp_path}/env/bin/python3 -m pip install dask"


def test_hint_names_the_option_which_overrides_one_that_was_given() -> None:
    package = planned("click", Level.EXACT)
    assert "--level click=nearest, or levels" in levels_that_help([package])
