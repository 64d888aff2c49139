"""What the field's installers and build backends leave behind; their packages come from the index."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.scan.environment import Environment, Package
from imagesync.scan.scan import scan
from tests.commands import clean_environ
from tests.environments import LocalEnvironment

MakeEnvironment = Callable[..., LocalEnvironment]

BACKENDS = {
    "setuptools": ("setuptools>=64", "setuptools.build_meta", ""),
    # The strict mode and a package at the root are import hooks, src is a .pth.
    "setuptools-hook": ("setuptools>=64", "setuptools.build_meta", '[tool.setuptools]\npackages = ["demo"]'),
    "hatchling": ("hatchling", "hatchling.build", ""),
    "flit": ("flit_core>=3.4", "flit_core.buildapi", ""),
    "poetry": ("poetry-core>=2", "poetry.core.masonry.api", ""),
    "pdm": ("pdm-backend", "pdm.backend", ""),
}


def make_project(folder: Path, backend: str) -> Path:
    requires, build_backend, more = BACKENDS[backend]
    package = folder / ("demo" if backend == "setuptools-hook" else "src/demo")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""A demo."""\n\n__version__ = "1.0"\n')
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{build_backend}"\n'
        f'[project]\nname = "demo"\nversion = "1.0"\ndescription = "A demo"\n{more}\n'
    )
    return folder


def scanned(made: LocalEnvironment) -> Environment:
    return scan(python=made.python, environ=clean_environ())


def demo(environment: Environment) -> Package:
    (found,) = [package for package in environment.packages if package.name == "demo"]
    return found


@pytest.mark.parametrize("installer", ["uv", "pip"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_editables_of_every_backend(
    backend: str, installer: str, environment: MakeEnvironment, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "a project", backend)
    made = environment(editable=[project], installer=installer)
    made.run("-c", "import demo")
    result = scanned(made)
    assert demo(result).source.to_dict() == {"kind": "directory", "url": project.as_uri(), "editable": True}
    assert demo(result).requested is True
    assert not result.findings
    # Without the record of where it came from, what makes it importable still says it.
    (record,) = made.site_packages.glob("demo-1.0.dist-info/direct_url.json")
    record.unlink()
    assert demo(scanned(made)).source.url == project.as_uri()


@pytest.mark.parametrize("option", ["--symlink", "--pth-file"])
def test_flit_in_place(option: str, environment: MakeEnvironment, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", "flit")
    made = environment("flit", installer="pip", arguments=["--no-compile"])
    subprocess.run(
        [made.prefix / "bin" / "flit", "install", option, "--python", made.python],
        cwd=project,
        env={**clean_environ(), "FLIT_ROOT_INSTALL": "1"},
        check=True,
        capture_output=True,
    )
    source = demo(scanned(made)).source
    assert (source.kind, source.editable, source.url) == ("directory", True, project.as_uri())


def test_setup_py_develop(environment: MakeEnvironment, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "src" / "demo").mkdir(parents=True)
    (project / "src" / "demo" / "__init__.py").write_text("")
    (project / "setup.py").write_text(
        "from setuptools import setup\n"
        "setup(name='demo', version='1.0', packages=['demo'], package_dir={'': 'src'},"
        " install_requires=['toolz'], extras_require={'fast': ['cytoolz']})\n"
    )
    made = environment("setuptools==65.5.0", "toolz==1.0.0")
    subprocess.run(
        [made.python, "setup.py", "--quiet", "develop", "--no-deps"],
        cwd=project,
        check=True,
        capture_output=True,
    )
    assert list(made.site_packages.glob("*.egg-link"))
    result = scanned(made)
    found = demo(result)
    assert found.source.to_dict() == {"kind": "directory", "url": project.as_uri(), "editable": True}
    assert found.requires == ("toolz", 'cytoolz; extra == "fast"')
    assert not result.findings


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_git_and_directory(installer: str, environment: MakeEnvironment, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", "hatchling")
    git = ["git", "-C", str(project), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    made = environment(f"demo @ git+{project.as_uri()}@main", installer=installer)
    source = demo(scanned(made)).source
    assert (source.kind, source.vcs, source.commit) == ("vcs", "git", head)
    assert source.requested_revision == "main"
    made = environment(str(project), installer=installer)
    source = demo(scanned(made)).source
    assert (source.kind, source.editable, source.url) == ("directory", False, project.as_uri())


def test_every_package_that_pip_lists(environment: MakeEnvironment) -> None:
    import json

    # Compiling the bytecode takes longer than the rest.
    packages = ["requests", "sqlalchemy", "pyyaml"]
    made = environment(*packages, installer="pip", arguments=["--no-compile"])
    listed = json.loads(made.run("-m", "pip", "list", "--format=json", "--disable-pip-version-check"))
    found = {package.name: package.version for package in scanned(made).packages}
    assert found == {item["name"].lower().replace("_", "-"): item["version"] for item in listed}


def test_the_systems_python() -> None:
    """Debian's packages have no RECORD, and partly no dist-info; pip lists the same set."""
    import json

    python = Path("/usr/bin/python3")
    if not Path("/usr/lib/python3/dist-packages").is_dir():
        pytest.skip("only on Linux")
    result = scan(python=python, environ={**clean_environ(), "PYTHONNOUSERSITE": "1"})
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps([d.metadata['Name'] for d in m.distributions()]))"
    )
    said = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    expected = {name.lower().replace("_", "-").replace(".", "-") for name in json.loads(said)}
    assert {package.name for package in result.packages} == expected
    assert all(package.source.kind == "index" for package in result.packages)
