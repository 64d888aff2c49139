"""Programs for other interpreters: their syntax, their imports, and how their text is put together."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync import standalone
from imagesync.standalone.programs import program_path, program_text

ROOT = Path(standalone.__file__).parent
# Put together or started on the host: not itself sent to another interpreter.
HOST_MODULES = {"programs"}
# What other packages a program finds where it runs: Dask in a cluster, PyPA's installer beside it in a build.
PROVIDED = {
    "cluster.node": {"dask", "distributed"},
    "cluster.scheduler": {"distributed", "tornado"},
    "cluster.apply_sync": {"distributed"},
    "cluster.heartbeats": {"distributed"},
    "image.install_wheels": {"installer"},
}
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if path.name != "__init__.py" and path.stem not in HOST_MODULES
)


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield str(node.module)


def definitions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("name", MODULES)
def test_program_has_syntax_of_python_3_8_and_imports_the_standard_library(name: str) -> None:
    tree = ast.parse(program_path(name).read_text(encoding="utf-8"), feature_version=(3, 8))
    for module in imports(tree):
        top = module.partition(".")[0]
        is_shared = module.startswith("imagesync.standalone.")
        assert is_shared or top in sys.stdlib_module_names | PROVIDED.get(name, set()), module


@pytest.mark.parametrize("name", MODULES)
def test_text_of_a_program_is_one_module_without_clashing_names(name: str) -> None:
    tree = ast.parse(program_text(name), feature_version=(3, 8))
    assert not [module for module in imports(tree) if module.split(".")[0] == "imagesync"]
    twice = [name for name, count in Counter(definitions(tree)).items() if count > 1]
    assert set(twice) <= {"main"}
    assert sum(isinstance(node, ast.If) and "__main__" in ast.dump(node.test) for node in tree.body) <= 2


def test_probe_starts_as_a_file_and_imports_no_other_module() -> None:
    assert "imagesync.standalone" not in program_path("host.probe").read_text(encoding="utf-8")


def test_process_1_of_a_cluster_imports_very_little() -> None:
    statements = ast.parse(program_text("cluster.node")).body
    at_start = {
        name for one in statements if isinstance(one, ast.Import | ast.ImportFrom) for name in imports(one)
    }
    assert at_start == {"__future__", "collections.abc", "os", "signal", "sys", "time", "typing"}


def test_text_of_a_program_runs_without_imagesync(tmp_path: Path) -> None:
    code = program_text("cluster.member_facts") + "\nprint(facts()['python'], 'imagesync' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [".".join(map(str, sys.version_info[:3])), "False"]
