"""Modules that two packages have, or the standard library too; sources gone or changed. Really installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.plan.checks import file_conflicts
from imagesync.plan.checks.file_conflicts import check_files
from imagesync.plan.checks.modules import modules, standard_library
from imagesync.plan.make_plan import make_plan
from imagesync.scan.environment import Finding, Package, Severity
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from tests.environments import LocalEnvironment, make_environment
from tests.indexes.wheels import make_wheel

# A build backend without requirements, for one package or module in src, or at the top.
BACKEND = """
import pathlib, sys
sys.path.insert(0, {wheels!r})
from wheels import make_wheel

TOP = pathlib.Path("src") if pathlib.Path("src").is_dir() else pathlib.Path(".")

def _write(folder, files):
    name, content = make_wheel({name!r}, "1.0", files=files)
    (pathlib.Path(folder) / name).write_bytes(content)
    return name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _write(folder, {{str(path.relative_to(TOP)): path.read_bytes() for path in TOP.rglob("*.py")}})

def build_editable(folder, config_settings=None, metadata_directory=None):
    return _write(folder, {{"_{name}.pth": str(TOP.absolute()).encode()}})
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["backend"]
[project]
name = {name!r}
version = "1.0"
"""


@pytest.fixture
def local(tmp_path: Path) -> LocalEnvironment:
    return make_environment(tmp_path / "env", python=sys.executable)


InstallWheel = Callable[..., None]


@pytest.fixture
def wheel(local: LocalEnvironment, tmp_path: Path) -> InstallWheel:
    def install(name: str, **files: bytes) -> None:
        content = {path.replace("__in__", "/") + ".py": text for path, text in files.items()}
        filename, archive = make_wheel(name, "1.0", files=content)
        (tmp_path / filename).write_bytes(archive)
        local.install("--offline", "--no-deps", tmp_path / filename)

    return install


def project(folder: Path, name: str, *modules: str) -> Path:
    (folder / "backend").mkdir(parents=True)
    backend = BACKEND.format(wheels=str(Path(__file__).parents[2] / "indexes"), name=name)
    (folder / "backend/backend.py").write_text(backend)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name))
    for module in modules:
        path = folder / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine = True\n")
    return folder


def findings(local: LocalEnvironment, **settings: object) -> list[Finding]:
    environment = scan(python=local.python, environ={})
    plan = make_plan(environment, settings=Settings(profile="none", **settings))
    found = check_files(plan, environment)
    # What is remembered of an earlier state of the environment must not show, nor the lack of it.
    cache = local.prefix.parent / "cache"
    assert check_files(plan, environment, cache=cache) == check_files(plan, environment, cache=cache) == found
    return list(found)


def test_module_of_two_packages_is_a_finding(local: LocalEnvironment, wheel: InstallWheel) -> None:
    wheel("vision", cv__in____init__=b"full = True\n", cv__in__data=b"same\n")
    wheel("vision-headless", cv__in____init__=b"full = False\n", cv__in__data=b"same\n")
    (clash,) = findings(local)
    assert (clash.code, clash.severity) == ("module-clash", Severity.WARNING)
    assert "vision 1.0 and vision-headless 1.0 both have the module cv (cv/__init__.py)" in clash.message
    assert f"uv pip uninstall --python {local.python} vision vision-headless" in (clash.hint or "")
    assert findings(local, ignore=("vision-headless",)) == [], "what is left out clashes with nothing"


def test_conflict_that_an_installation_makes_is_found_though_there_was_none(
    local: LocalEnvironment, wheel: InstallWheel
) -> None:
    wheel("vision", cv__in____init__=b"full = True\n")
    assert findings(local) == []
    wheel("vision-headless", cv__in____init__=b"full = False\n")
    assert [finding.code for finding in findings(local)] == ["module-clash"]


def test_modules_are_listed_again_only_after_an_installation(
    local: LocalEnvironment, wheel: InstallWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel("vision", cv__in____init__=b"full = True\n")
    environment = scan(python=local.python, environ={})
    plan = make_plan(environment, settings=Settings(profile="none"))
    listed: list[str] = []

    def modules_of(package: Package) -> dict[str, str]:
        listed.append(str(package.name))
        return modules(package)

    monkeypatch.setattr(file_conflicts, "modules", modules_of)
    for _ in range(2):
        assert check_files(plan, environment, cache=tmp_path / "cache") == ()
    assert listed.count("vision") == 1


@pytest.mark.parametrize(
    "init",
    [
        None,
        b"",
        b"__import__('pkg_resources').declare_namespace(__name__)\n",
        b"from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n",
    ],
)
def test_portions_of_a_namespace_do_not_conflict(
    local: LocalEnvironment, wheel: InstallWheel, init: bytes | None
) -> None:
    for portion in ("herbs", "roots"):
        both = {} if init is None else {"garden__in____init__": init + f"# {portion}\n".encode() * bool(init)}
        wheel(f"garden-{portion}", **{f"garden__in__{portion}": b"x = 1\n"}, **both)
    assert findings(local) == []


def test_module_of_an_editable_project_and_a_package_is_a_finding(
    local: LocalEnvironment, wheel: InstallWheel, tmp_path: Path
) -> None:
    wheel("orchard-tools", orchard__in____init__=b"mine = False\n")
    source = project(tmp_path / "p", "orchard", "src/orchard/__init__.py", "tests/__init__.py")
    local.install("--offline", "-e", source)
    (clash,) = findings(local)
    assert clash.code == "module-clash"
    assert "orchard 1.0 and orchard-tools 1.0 both have the module orchard" in clash.message
    assert "Rename what orchard has" in (clash.hint or "")


def test_tests_at_the_top_of_editable_projects_do_not_conflict(
    local: LocalEnvironment, tmp_path: Path
) -> None:
    for name in ("orchard", "meadow"):
        source = project(tmp_path / name, name, f"{name}/__init__.py", "tests/__init__.py", "setup.py")
        local.install("--offline", "-e", source)
    assert findings(local) == []


def test_module_with_a_name_of_the_standard_library_is_a_finding(
    local: LocalEnvironment, wheel: InstallWheel, tmp_path: Path
) -> None:
    wheel("enum-backport", enum__in____init__=b"", enum__in__more=b"", dataclasses=b"", enumerated=b"")
    local.install("--offline", "-e", project(tmp_path / "p", "parser-tools", "src/json.py"))
    first, second = findings(local)
    assert (first.code, first.package) == ("standard-library-clash", "enum-backport")
    assert "the modules dataclasses, enum, and so has the standard library" in first.message
    assert f"uv pip uninstall --python {local.python} enum-backport" in (first.hint or "")
    assert (second.package, second.hint) == ("parser-tools", "Rename the module in parser-tools.")


def test_missing_source_tree_is_a_finding(local: LocalEnvironment, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "orchard", "src/orchard/__init__.py")
    local.install("--offline", "-e", source)
    assert findings(local) == []
    (source / "pyproject.toml").rename(source / "pyproject.old")
    (empty,) = findings(local)
    assert (empty.code, empty.severity, empty.path) == ("source-not-a-project", Severity.ERROR, str(source))
    shutil.rmtree(source)
    (gone,) = findings(local)
    assert (gone.code, gone.severity, gone.package) == ("source-missing", Severity.ERROR, "orchard")
    assert str(source) in gone.message
    assert f"uv pip install --python {local.python} --editable FOLDER" in (gone.hint or "")
    assert "--ignore orchard" in (gone.hint or "")
    assert findings(local, ignore=("orchard",)) == []


def test_installed_files_replace_a_missing_source_tree(local: LocalEnvironment, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "orchard", "src/orchard/__init__.py")
    local.install("--offline", source)
    shutil.rmtree(source)
    (gone,) = findings(local)
    assert (gone.code, gone.severity) == ("source-missing", Severity.INFO)
    assert "the image gets the installed files" in gone.message
    next(local.site_packages.glob("orchard-1.0.dist-info/RECORD")).unlink()
    (gone,) = findings(local)
    assert gone.severity is Severity.ERROR


@pytest.mark.parametrize("minor", ["3.10", "3.11", "3.12", "3.13"])
def test_standard_library_has_the_modules_of_each_python(
    minor: str, find_python: Callable[[str], Path]
) -> None:
    code = "import sys; print(*(name for name in sys.stdlib_module_names if not name.startswith('_')))"
    said = subprocess.run([find_python(minor), "-c", code], check=True, capture_output=True, text=True).stdout
    assert standard_library(minor) == set(said.split())


def require(folder: Path, *requirements: str) -> None:
    lines = "\n".join(f'  "{each}",' for each in requirements)
    (folder / "pyproject.toml").write_text(
        f"{PYPROJECT.format(name='mine')}dependencies = [\n{lines}\n]\n", encoding="utf-8"
    )


@pytest.mark.parametrize("options", [("--editable",), ()])
def test_requirements_that_a_project_got_after_it_was_installed(
    local: LocalEnvironment, wheel: InstallWheel, tmp_path: Path, options: tuple[str, ...]
) -> None:
    folder = project(tmp_path / "mine", "mine", "mine/__init__.py")
    wheel("vision")
    local.install("--offline", *options, folder)
    require(folder, "vision>=1", "nothing; sys_platform == 'win32'", "dask[array]>=2025; extra == 'more'")
    assert findings(local) == []
    require(folder, "vision>=2", "Loose_Leaf>=1.5; python_version >= '3.8'", "not a requirement")
    old, missing = findings(local)
    assert {(f.code, f.severity, f.package) for f in (old, missing)} == {
        ("requirement-not-installed", Severity.WARNING, "mine")
    }
    assert "now requires vision>=2, and vision 1.0 is installed here; the image gets that." in old.message
    assert "now requires Loose_Leaf>=1.5" in missing.message
    assert "which isn't installed here, so the image won't have it." in missing.message
    assert " ".join(("uv pip install --python", str(local.python), *options, str(folder))) in (
        missing.hint or ""
    )
    assert [f.message for f in findings(local, add_pip=("loose-leaf==1.6",))] == [old.message]
    assert findings(local, ignore=("mine",)) == []


def test_requirements_in_poetrys_table(local: LocalEnvironment, wheel: InstallWheel, tmp_path: Path) -> None:
    folder = project(tmp_path / "mine", "mine", "mine/__init__.py")
    wheel("vision")
    local.install("--offline", "--editable", folder)
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('[tool.poetry.dependencies]\npython = "^3.9"\nvision = "^1"\nloose-leaf = "^2"\n')
    (missing,) = findings(local)
    assert "now requires loose-leaf, which" in missing.message
