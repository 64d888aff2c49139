"""Paths that lead out of an editable package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.plan.checks.file_paths import paths_outside, paths_outside_module
from imagesync.plan.make_plan import make_plan
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from tests.environments import LocalEnvironment
from tests.plans import codes

OUTSIDE = [
    "Path(__file__).parents[1] / 'data'",
    "Path(__file__).resolve().parents[1]",
    "pathlib.Path(__file__).parent.parent / 'models'",
    "Path(os.path.abspath(__file__)).parent.parent.parent",
    "os.path.dirname(os.path.dirname(os.path.abspath(__file__)))",
    "os.path.join(os.path.dirname(__file__), '..', 'data')",
    "os.path.join(os.path.dirname(__file__), '../data')",
]
INSIDE = [
    "Path(__file__).parent / 'data'",
    "Path(__file__).parents[0]",
    "os.path.join(os.path.dirname(__file__), 'data')",
    "sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))",
    "Path('elsewhere').parents[1]",
    "Path(__file__).parents[n]",
]


def outside(tmp_path: Path, line: str, depth: int) -> list[int]:
    module = tmp_path / "config.py"
    module.write_text(f"import os, sys\n\nROOT = {line}\n")
    return [found.line for found in paths_outside_module(str(module), depth=depth)]


@pytest.mark.parametrize("line", OUTSIDE)
def test_path_out_of_a_package_is_found(tmp_path: Path, line: str) -> None:
    assert outside(tmp_path, line, depth=2) == [3]


@pytest.mark.parametrize("line", INSIDE)
def test_path_inside_a_package_is_no_finding(tmp_path: Path, line: str) -> None:
    assert outside(tmp_path, line, depth=2) == []


def test_path_to_a_package_from_its_subpackage_is_no_finding(tmp_path: Path) -> None:
    assert outside(tmp_path, "Path(__file__).parents[1]", depth=3) == []
    assert outside(tmp_path, "Path(__file__).parents[2]", depth=3) == [3]


def test_editable_package_of_a_template_is_named(
    environment: Callable[..., LocalEnvironment], tmp_path: Path
) -> None:
    source = tmp_path / "weather"
    (source / "weather").mkdir(parents=True)
    (source / "weather" / "__init__.py").touch()
    (source / "weather" / "config.py").write_text(
        "from pathlib import Path\n\nPROJ_ROOT = Path(__file__).resolve().parents[1]\n"
    )
    (source / "weather" / "tests").mkdir()
    (source / "weather" / "tests" / "test_it.py").write_text("import os\nA = __file__ + '/../..'\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n'
        '[project]\nname = "weather"\nversion = "1.0"\nrequires-python = ">=3.8"\n'
        '[tool.uv.build-backend]\nmodule-root = ""\n'
    )
    made = environment()
    made.install("--editable", str(source))
    plan = make_plan(scan(python=made.python, environ={}), settings=Settings(profile="none"))
    (finding,) = paths_outside(plan)
    assert finding.code == "path-outside-package"
    assert "config.py:3 (Path(__file__).resolve().parents[1])" in finding.message
    assert finding.path == str(source / "weather" / "config.py")
    assert "importlib.resources" in str(finding.hint)
    assert "path-outside-package" not in codes(plan)
