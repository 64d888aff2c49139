"""Wheels by real build backends, from the user's own index."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.errors import WheelError
from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_plan import plan_environment
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import Plan
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from imagesync.store.layout import LOGS, TREES
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build_indexes import BuildIndexes
from imagesync.wheels.build_requirements import installed_requirements
from imagesync.wheels.sdists.sdist import build_sdists
from imagesync.wheels.sources.source_digests import digest_sources
from imagesync.wheels.vendor import vendor
from tests.commands import CommandLine, git
from tests.environments import LocalEnvironment, make_environment, run
from tests.git_server import GitServer
from tests.indexes import LocalIndex
from tests.passwords import Password
from tests.progress import RecordedLines

SECRET = "hunter2-secret"
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


SETUPTOOLS = '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n'
PROJECT = """
[project]
name = "{name}"
version = "1.0"
description = "A test"
requires-python = ">=3.8"
[project.scripts]
{name}-run = "{name}:main"
"""
MODULE = """
import importlib.resources
def main():
    print((importlib.resources.files(__name__) / "data.txt").read_text())
"""


def project(folder: Path, name: str, backend: str, *, src: bool = False, more: str = "") -> Path:
    package = f"{'src/' if src else ''}{name}"
    return write(
        folder,
        {
            "pyproject.toml": backend + PROJECT.format(name=name) + more,
            f"{package}/__init__.py": f'"""A package."""\n__version__ = "1.0"\n{MODULE}',
            f"{package}/data.txt": name,
        },
    )


HATCHLING = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
FLIT = '[build-system]\nrequires = ["flit_core>=3.8"]\nbuild-backend = "flit_core.buildapi"\n'
PACKAGE_DATA = '[tool.setuptools.package-data]\n"*" = ["*.txt"]\n'


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return make_environment(tmp_path_factory.mktemp("env") / "venv", python=sys.executable)


def build_indexes(
    environment: LocalEnvironment, environ: Mapping[str, str], progress: SilentProgress
) -> BuildIndexes:
    configured = read_pip_configuration(prefix=environment.prefix, environ=environ)
    access = make_access(configured, environ)
    return BuildIndexes(configured, access=access, environ=environ, progress=progress)


class Vendoring:
    """An environment, a store, and what came out."""

    def __init__(self, environment: LocalEnvironment, folder: Path) -> None:
        self.environment = environment
        self.store = Store(folder / "store")
        self.progress = RecordedLines()
        self.target = Target(LINUX_AMD64, f"{MINOR}.0", (2, 99))

    def plan(self) -> Plan:
        settings = Settings(profile="none", cache_dir=self.store.root)
        return plan_environment(scan(python=self.environment.python), Context(settings))

    def wheels(
        self, *, environ: Mapping[str, str] | None = None, no_isolation: tuple[str, ...] = ()
    ) -> dict[str, StoredFile]:
        plan = self.plan()
        contents = digest_sources(plan, cache=self.store.root / TREES)
        packages = [p for p in plan.packages if p.vendored]
        made = vendor(
            [VendoredPackage(p.name, p.version, contents[p.name], p) for p in packages],
            python=plan.python,
            target=self.target,
            store=self.store,
            indexes=build_indexes(self.environment, {**os.environ, **(environ or {})}, self.progress),
            progress=self.progress,
            no_isolation=no_isolation,
        )
        return {str(package.name): each.wheel for package, each in zip(packages, made, strict=True)}


@pytest.fixture
def vendoring(tmp_path: Path) -> Vendoring:
    return Vendoring(make_environment(tmp_path / "venv", python=sys.executable), tmp_path)


def members(wheel: StoredFile) -> set[str]:
    with zipfile.ZipFile(wheel.path) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def installed_anew(wheel: StoredFile, folder: Path) -> LocalEnvironment:
    path = folder / wheel.filename
    path.write_bytes(wheel.path.read_bytes())
    return make_environment(folder / "fresh", python=sys.executable, packages=[str(path)])


def test_editables_of_all_kinds_become_wheels_that_work(vendoring: Vendoring, tmp_path: Path) -> None:
    sources = tmp_path / "my sources"
    folders = [
        project(sources / "a", "flatset", SETUPTOOLS, more=PACKAGE_DATA),
        project(sources / "b", "srcset", SETUPTOOLS, src=True, more=PACKAGE_DATA),
        project(sources / "c", "hatched", HATCHLING, src=True),
        project(sources / "d", "flitted", FLIT),
        write(
            sources / "e",
            {
                "setup.py": "from setuptools import setup, find_namespace_packages\n"
                "setup(name='legacy', version='1.0', packages=find_namespace_packages(include=['space.*']),"
                " package_data={'space.inner': ['*.txt']},"
                " entry_points={'console_scripts': ['legacy-run=space.inner:main']})\n",
                "space/inner/__init__.py": MODULE,
                "space/inner/data.txt": "legacy",
            },
        ),
    ]
    git(sources, "init", "-q")
    git(folders[0], "add", ".")
    git(folders[0], "commit", "-qm", "first")
    vendoring.environment.install(*(word for folder in folders for word in ("-e", folder)))
    before = snapshot(sources)
    wheels = vendoring.wheels()
    assert snapshot(sources) == before
    assert set(wheels) == {"flatset", "srcset", "hatched", "flitted", "legacy"}
    assert vendoring.progress.lines == []
    for name, wheel in wheels.items():
        assert wheel.filename.startswith(f"{name}-1.0-py")
        (tmp_path / name).mkdir()
        fresh = installed_anew(wheel, tmp_path / name)
        assert run([fresh.prefix / "bin" / f"{name}-run"]).strip() == name
    assert "space/inner/data.txt" in members(wheels["legacy"])


def test_nothing_is_built_twice_and_an_edit_is_built(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "flitted", FLIT)
    vendoring.environment.install("-e", source)
    first = vendoring.wheels()["flitted"]
    log = next((vendoring.store.root / "logs").iterdir())
    log.unlink()
    assert vendoring.wheels()["flitted"] == first
    assert not log.exists()
    (source / "flitted/data.txt").write_text("edited")
    assert vendoring.wheels()["flitted"].digest != first.digest


def test_an_extension_module_is_built_for_the_scanned_interpreter(
    vendoring: Vendoring, tmp_path: Path
) -> None:
    other = next(
        (
            p / "bin/python"
            for m in ("3.12", "3.10", "3.13")
            for p in Path.home().glob(f".pyenv/versions/{m}.*")
        ),
        None,
    )
    if other is None:
        pytest.skip("no CPython 3.12 on this machine")
    vendoring.environment = make_environment(tmp_path / "other", python=other)
    source = write(
        tmp_path / "p",
        {
            "pyproject.toml": SETUPTOOLS,
            "setup.py": "from setuptools import setup, Extension\n"
            "setup(name='native', version='1.0', ext_modules=[Extension('native', ['native.c'])])\n",
            # Since glibc 2.34 this function is libc's own.
            "native.c": "#include <Python.h>\n#include <pthread.h>\n"
            "int make(void) { return pthread_key_create(0, 0); }\n"
            'static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "native", 0, -1, 0};\n'
            "PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&m); }\n",
        },
    )
    vendoring.environment.install("-e", source)
    python = vendoring.plan().python
    vendoring.target = Target(LINUX_AMD64, python.version, (2, 99))
    wheel = vendoring.wheels()["native"]
    tag = python.abi
    assert wheel.filename == f"native-1.0-{tag}-{tag}-linux_x86_64.whl"
    (name,) = members(wheel)
    assert name.startswith("native.cpython-")
    assert not list(source.rglob("build/*.o"))

    vendoring.target = Target(LINUX_AMD64, python.version, (2, 31))
    with pytest.raises(WheelError, match=r"needs glibc 2\.34"):
        vendoring.wheels()


def test_a_build_that_writes_everywhere_leaves_the_tree_alone(vendoring: Vendoring, tmp_path: Path) -> None:
    writing = (
        "    for place in ('generated/old.txt', 'generated/new.txt', 'old.bin', 'mine/_made.py', "
        "'../shared/x.txt'):\n"
        "        Path(place).write_text('by the build')\n"
        "    Path('generated/gone.txt').unlink()\n"
    )
    backend = BACKEND.format(version="1.0").replace("    name = ", writing + "    name = ")
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    source = write(
        tmp_path / "repository/project",
        {
            "pyproject.toml": system,
            "backend.py": backend,
            "mine/__init__.py": "",
            ".gitignore": "generated/\n*.bin\n_made.py\n",
        },
    )
    git(source.parent, "init", "-q")

    def ours() -> None:
        files = ("generated/old.txt", "generated/gone.txt", "mine/_made.py", "../shared/x.txt")
        write(source, dict.fromkeys(files, "ours"))
        (source / "old.bin").write_bytes(bytes(3 << 20))

    ours()
    vendoring.environment.install("-e", source)  # which builds in place
    ours()
    (source / "generated/new.txt").unlink()
    before = snapshot(source.parent)
    assert set(vendoring.wheels()) == {"mine"}
    assert snapshot(source.parent) == before
    assert vendoring.progress.lines == []


def test_ignored_files_that_a_wheel_has_count_from_then_on(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "flitted", FLIT)
    write(
        source,
        {".gitignore": "_made.py\nother.py\n", "flitted/_made.py": "one", "other.py": "not in the wheel"},
    )
    git(source, "init", "-q")
    vendoring.environment.install("-e", source)
    first = vendoring.wheels()["flitted"]
    assert "flitted/_made.py" in members(first)
    log = next((vendoring.store.root / "logs").iterdir())
    log.unlink()
    (source / "other.py").write_text("still not")
    assert vendoring.wheels()["flitted"] == first
    assert not log.exists()
    (source / "flitted/_made.py").write_text("two")
    second = vendoring.wheels()["flitted"]
    with zipfile.ZipFile(second.path) as archive:
        assert archive.read("flitted/_made.py") == b"two"
    (source / "flitted/_made.py").unlink()
    assert "flitted/_made.py" not in members(vendoring.wheels()["flitted"])
    (source / "flitted/_made.py").write_text("two")
    assert vendoring.wheels()["flitted"].digest == second.digest


def test_files_beside_the_project_that_a_wheel_has_count_from_then_on(
    vendoring: Vendoring, tmp_path: Path
) -> None:
    more = (
        '[tool.hatch.build.targets.wheel.force-include]\n"../shared/table.csv" = "hatched/data/units.csv"\n'
    )
    source = project(tmp_path / "p/inner", "hatched", HATCHLING, more=more)
    write(source.parent, {"shared/table.csv": "km", "shared/other.csv": "not in the wheel"})
    git(source.parent, "init", "-q")
    vendoring.environment.install("-e", source)
    first = vendoring.wheels()["hatched"]
    (source.parent / "shared/other.csv").write_text("still not")
    assert vendoring.wheels()["hatched"] == first
    (source.parent / "shared/table.csv").write_text("miles")
    with zipfile.ZipFile(vendoring.wheels()["hatched"].path) as archive:
        assert archive.read("hatched/data/units.csv") == b"miles"


def test_a_build_error_has_the_log(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "broken", SETUPTOOLS)
    vendoring.environment.install("-e", source)
    (source / "setup.py").write_text(
        "print('asking https://me:"
        + SECRET
        + "@example.com/simple')\nraise SystemExit('no compiler for Fortran')\n"
    )
    with pytest.raises(WheelError) as raised:
        vendoring.wheels()
    assert "broken 1.0" in raised.value.message
    assert "no compiler for Fortran" in raised.value.message
    log = next((vendoring.store.root / "logs").iterdir())
    assert str(log) in str(raised.value)
    assert SECRET not in str(raised.value) + log.read_text()


def test_a_build_requirement_that_does_not_exist_is_named(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "broken", SETUPTOOLS)
    vendoring.environment.install("-e", source)
    pyproject = source / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("setuptools>=64", "setuptools>9999"))
    with pytest.raises(WheelError, match="setuptools>9999"):
        vendoring.wheels()


SCM = (
    '[project]\nname = "versioned"\ndescription = "Has one"\n'
    'requires-python = ">=3.8"\ndynamic = ["version"]\n'
)
BY_GIT = {
    "setuptools-scm": SETUPTOOLS.replace("]\nbuild", ', "setuptools_scm>=8"]\nbuild')
    + SCM
    + "[tool.setuptools_scm]\n",
    "hatch-vcs": HATCHLING.replace('"]', '", "hatch-vcs"]')
    + SCM
    + '[tool.hatch.version]\nsource = "vcs"\n[tool.hatch.build.targets.wheel]\npackages = ["versioned"]\n',
    "uv-dynamic-versioning": HATCHLING.replace('"]', '", "uv-dynamic-versioning"]')
    + SCM
    + '[tool.hatch.version]\nsource = "uv-dynamic-versioning"\n',
    "poetry-dynamic-versioning": '[build-system]\nrequires = ["poetry-core", "poetry-dynamic-versioning"]\n'
    'build-backend = "poetry_dynamic_versioning.backend"\n'
    + SCM
    + '[tool.poetry]\nversion = "0.0.0"\n[tool.poetry-dynamic-versioning]\nenable = true\n',
    "pdm": '[build-system]\nrequires = ["pdm-backend"]\nbuild-backend = "pdm.backend"\n'
    + SCM
    + '[tool.pdm.version]\nsource = "scm"\n',
}


@pytest.mark.parametrize("backend", sorted(BY_GIT))
def test_versions_from_git_are_the_installed_ones(vendoring: Vendoring, tmp_path: Path, backend: str) -> None:
    source = write(
        tmp_path / "p",
        {
            "pyproject.toml": BY_GIT[backend],
            "versioned/__init__.py": "",
            "versioned/data.txt": "tracked",
        },
    )
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "first")
    git(source, "tag", "v1.2.3")
    vendoring.environment.install("-e", source)
    # The tree is dirty now, and a commit further: without what is installed the version would be another.
    (source / "versioned/__init__.py").write_text("edited = True\n")
    git(source, "commit", "-qam", "second")
    (source / "versioned/__init__.py").write_text("edited = 'again'\n")
    wheel = vendoring.wheels()["versioned"]
    assert wheel.filename == "versioned-1.2.3-py3-none-any.whl"
    assert members(wheel) == {"versioned/__init__.py", "versioned/data.txt"}
    assert vendoring.progress.lines == []
    with zipfile.ZipFile(wheel.path) as archive:
        assert archive.read("versioned/__init__.py") == b"edited = 'again'\n"


def test_wheel_names_the_commit_that_setuptools_scm_asks_git_for(
    vendoring: Vendoring, tmp_path: Path
) -> None:
    module = '[tool.setuptools_scm]\nversion_file = "versioned/_version.py"\n'
    files = {
        "pyproject.toml": BY_GIT["setuptools-scm"].replace("[tool.setuptools_scm]\n", module),
        "versioned/__init__.py": "",
        ".gitignore": "_version.py\n*.egg-info\n",
    }
    source = write(tmp_path / "p", files)
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"], ["tag", "v1.2.3"]):
        git(source, *arguments)
    vendoring.environment.install("-e", source)
    show = "from versioned import _version; print(_version.__commit_id__)"
    here = vendoring.environment.run("-c", show).strip()
    assert here.startswith("g")
    fresh = installed_anew(vendoring.wheels()["versioned"], tmp_path)
    assert fresh.run("-c", show).strip() == here
    git(source, "commit", "--allow-empty", "-qm", "no file has changed")
    with zipfile.ZipFile(vendoring.wheels()["versioned"].path) as wheel:
        written = wheel.read("versioned/_version.py").decode()
    assert "__commit_id__" in written
    assert here not in written


def test_another_version_is_said(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "flitted", FLIT)
    vendoring.environment.install("-e", source)
    pyproject = source / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('"1.0"', '"1.1"'))
    assert vendoring.wheels()["flitted"].filename.startswith("flitted-1.1-")
    assert [line for line in vendoring.progress.lines if "1.0" in line and "1.1" in line]


def test_secrets_of_an_editable_are_named_by_each_build_and_refused_by_strict(
    cli: CommandLine, vendoring: Vendoring, tmp_path: Path
) -> None:
    source = project(tmp_path / "p", "flitted", FLIT)
    write(source, {"flitted/.env": "PASSWORD=x"})
    vendoring.environment.install("-e", source)
    version = ".".join(map(str, sys.version_info[:3]))
    target = ("--target-python", version, "--target-glibc", "2.36", "--base", "debian:bookworm-slim")
    lock = ("lock", "--python", str(vendoring.environment.python), "-o", "pylock.toml", *target)
    cli = cli.with_environ(DOCKER_HOST="tcp://127.0.0.1:1", IMAGESYNC_PROFILE="none")
    for _ in range(2):  # the second time the wheel is in the store
        assert "flitted-1.0-py3-none-any.whl: flitted/.env" in cli.run(*lock).stderr
    refused = cli.run(*lock, "--strict")
    assert (refused.returncode, "flitted/.env" in refused.stderr) == (1, True), refused.stderr


def test_a_source_that_is_gone_is_named(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "flitted", FLIT)
    vendoring.environment.install("-e", source)
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(WheelError, match=r"flitted 1\.0: The source folder .*/p is gone"):
        vendoring.wheels()


@pytest.fixture
def private_git(tmp_path: Path) -> Iterator[str]:
    source = project(tmp_path / "work", "gitted", FLIT)
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "first")
    git(tmp_path, "clone", "-q", "--bare", str(source), "served/gitted.git")
    with GitServer(tmp_path / "served", Password("me", SECRET)) as server:
        yield f"{server.host}/gitted.git"


def everything_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_private_git_package_is_repacked_without_a_clone(
    vendoring: Vendoring, tmp_path: Path, private_git: str
) -> None:
    vendoring.environment.install(f"gitted @ git+http://me:{SECRET}@{private_git}")
    wheel = vendoring.wheels()["gitted"]
    assert wheel.filename == "gitted-1.0-py3-none-any.whl"
    assert not (vendoring.store.root / "logs").exists()
    with zipfile.ZipFile(wheel.path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert names.isdisjoint({"direct_url.json", "INSTALLER", "REQUESTED"})
    assert SECRET.encode() not in content + everything_below(vendoring.store.root)
    (tmp_path / "check").mkdir()
    fresh = installed_anew(wheel, tmp_path / "check")
    assert run([fresh.prefix / "bin/gitted-run"]).strip() == "gitted"


def test_a_git_package_without_record_is_built_from_its_commit(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "work", "gitted", FLIT)
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "first")
    vendoring.environment.install(f"gitted @ git+{source.as_uri()}")
    (source / "gitted/data.txt").write_text("later")
    git(source, "commit", "-qam", "second")
    next(vendoring.environment.site_packages.glob("gitted-1.0.dist-info/RECORD")).unlink()
    wheel = vendoring.wheels()["gitted"]
    with zipfile.ZipFile(wheel.path) as archive:
        assert archive.read("gitted/data.txt") == b"gitted"


def test_a_commit_that_is_gone_is_named_without_the_password(
    vendoring: Vendoring, tmp_path: Path, private_git: str
) -> None:
    vendoring.environment.install(f"gitted @ git+http://me:{SECRET}@{private_git}")
    next(vendoring.environment.site_packages.glob("gitted-1.0.dist-info/RECORD")).unlink()
    with pytest.raises(WheelError, match="git can't get commit") as raised:
        vendoring.wheels()
    assert SECRET not in str(raised.value)
    assert SECRET.encode() not in everything_below(vendoring.store.root)


def test_an_edited_git_package_goes_as_it_is_and_is_said(vendoring: Vendoring, private_git: str) -> None:
    vendoring.environment.install(f"gitted @ git+http://me:{SECRET}@{private_git}")
    before = vendoring.wheels()["gitted"]
    data = vendoring.environment.site_packages / "gitted/data.txt"
    data.unlink()  # uv links files to its cache
    data.write_text("edited")
    wheel = vendoring.wheels()["gitted"]
    assert wheel.digest != before.digest
    with zipfile.ZipFile(wheel.path) as archive:
        assert archive.read("gitted/data.txt") == b"edited"
    (finding,) = vendoring.plan().findings
    assert "gitted/data.txt was edited" in finding.message


@pytest.mark.parametrize("record", [True, False])
def test_archive_gives_the_wheel_of_its_sources(vendoring: Vendoring, tmp_path: Path, record: bool) -> None:
    source = project(tmp_path / "work", "packed", FLIT)
    run([sys.executable, "-m", "build", "--sdist", "--installer", "uv", "-o", tmp_path, source])
    vendoring.environment.install(f"packed @ {(tmp_path / 'packed-1.0.tar.gz').as_uri()}")
    if not record:
        next(vendoring.environment.site_packages.glob("packed-1.0.dist-info/RECORD")).unlink()
    wheel = vendoring.wheels()["packed"]
    assert wheel.filename == "packed-1.0-py3-none-any.whl"
    assert members(wheel) == {"packed/__init__.py", "packed/data.txt"}


def test_sdist_of_an_index_is_built_once(vendoring: Vendoring, tmp_path: Path) -> None:
    source = project(tmp_path / "work", "packed", FLIT)
    run([sys.executable, "-m", "build", "--sdist", "--installer", "uv", "-o", tmp_path, source])
    sdist = vendoring.store.add_file(tmp_path / "packed-1.0.tar.gz")

    def build() -> StoredFile:
        artifact = Artifact("packed-1.0.tar.gz", "file:///x", sdist.digest)
        (built,) = build_sdists(
            [(LockedPackage("packed", "1.0", artifact), sdist)],
            target=vendoring.target,
            python=vendoring.plan().python,
            store=vendoring.store,
            indexes=build_indexes(vendoring.environment, os.environ, vendoring.progress),
            progress=vendoring.progress,
        )
        assert isinstance(built, StoredFile)
        return built

    wheel = build()
    assert wheel.filename == "packed-1.0-py3-none-any.whl"
    (log,) = (vendoring.store.root / "logs").iterdir()
    log.unlink()
    assert build() == wheel
    assert not log.exists()


# A backend with no requirements, whose wheels say by which version of it they were made.
BACKEND = """
import zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "mine-1.0-py3-none-any.whl"
    files = {{
        "mine.py": "made_by = '{version}'",
        "mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n",
        "mine-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    files["mine-1.0.dist-info/RECORD"] = "".join(f"{{path}},,\\n" for path in files)
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name

build_editable = build_wheel
"""


@pytest.fixture
def backends() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        for number, version in enumerate(("1.0", "2.0", "3.0")):
            # Of another size each: Python takes bytecode of the same size and second for that of the module.
            files = {"tiny_backend.py": BACKEND.format(version=version).encode() + b"\n" * number}
            index.add_wheel("tiny-backend", version, files=files)
        yield index


@pytest.fixture
def mine(vendoring: Vendoring, backends: LocalIndex, tmp_path: Path) -> Path:
    """Return a project that is installed, with version 1.0 of its backend beside it."""
    system = '[build-system]\nrequires = ["tiny-backend"]\nbuild-backend = "tiny_backend"\n'
    source = write(tmp_path / "mine", {"pyproject.toml": system})
    index = {"UV_DEFAULT_INDEX": backends.url}
    vendoring.environment.install("tiny-backend==1.0", environ=index)
    vendoring.environment.install("--no-build-isolation", "-e", source, environ=index)
    return source


def made_by(wheels: Mapping[str, StoredFile]) -> str:
    with zipfile.ZipFile(wheels["mine"].path) as archive:
        return archive.read("mine.py").decode().split("'")[1]


# Notes when the environment was made that it runs in, and leaves a file there if it is told to.
NOTING = """
import os, sys
with open(os.environ["NOTES"], "a") as notes:
    print(os.stat(os.path.join(sys.prefix, "pyvenv.cfg")).st_mtime_ns, file=notes)
if os.environ["LEAVES"]:
    open(os.path.join(sys.prefix, os.environ["LEAVES"]), "w").close()
"""


def test_build_after_an_edit_gets_the_environment_of_the_last_one_unless_that_has_changed_it(
    vendoring: Vendoring,
    backends: LocalIndex,
    mine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = BACKEND.format(version="4.0") + NOTING
    backends.add_wheel("tiny-backend", "4.0", files={"tiny_backend.py": backend.encode()})
    notes = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))

    def environment_of(edit: str, *, leaves: str = "") -> str:
        monkeypatch.setenv("LEAVES", leaves)
        (mine / "edit.txt").write_text(edit)
        notes.unlink(missing_ok=True)
        assert made_by(vendoring.wheels(environ={"PIP_INDEX_URL": backends.url})) == "4.0"
        (found,) = set(notes.read_text().split())
        return found

    first = environment_of("one")
    assert environment_of("two", leaves="left.txt") == first
    third = environment_of("three")
    assert third != first
    assert environment_of("four") == third


@pytest.mark.parametrize("setting", ["PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"])
@pytest.mark.parametrize("folder", ["plain", "with space"])
def test_constraints_hold_for_build_requirements(
    vendoring: Vendoring, backends: LocalIndex, mine: Path, tmp_path: Path, setting: str, folder: str
) -> None:
    constraints = write(tmp_path / folder, {"constraints.txt": "tiny-backend<3\n"}) / "constraints.txt"
    # A path with a space is a URL to pip, too, whose lists end at spaces.
    place = constraints.as_uri() if " " in folder else str(constraints)
    environ = {"PIP_INDEX_URL": backends.url}
    assert made_by(vendoring.wheels(environ=environ)) == "3.0"
    (mine / "edit.txt").write_text("one")
    assert made_by(vendoring.wheels(environ={**environ, setting: place})) == "2.0"
    constraints.write_text("tiny-backend<2\n")
    (mine / "edit.txt").write_text("two")
    assert made_by(vendoring.wheels(environ={**environ, setting: place})) == "1.0"
    backends.stop()
    (mine / "edit.txt").write_text("three")
    assert made_by(vendoring.wheels(environ={**environ, setting: place})) == "1.0"


def test_build_requirements_come_from_the_indexes_that_answer(
    vendoring: Vendoring, backends: LocalIndex, mine: Path
) -> None:
    gone = LocalIndex(username="me", password=SECRET)
    gone.start()
    url, public = gone.url_with_credentials, gone.url
    gone.stop()
    environ = {
        "PIP_INDEX_URL": url,
        "PIP_EXTRA_INDEX_URL": backends.url,
        "PIP_RETRIES": "0",
        "UV_HTTP_RETRIES": "0",
    }
    assert made_by(vendoring.wheels(environ=environ)) == "3.0"
    (line,) = vendoring.progress.lines
    assert public in line
    assert "doesn't answer" in line
    # An edit doesn't wait for it again: what was resolved holds for a while.
    (mine / "edit.txt").write_text("one")
    assert made_by(vendoring.wheels(environ=environ)) == "3.0"
    assert len(vendoring.progress.lines) == 1
    assert SECRET.encode() not in everything_below(vendoring.store.root)


def test_no_index_that_answers_is_an_error(vendoring: Vendoring, backends: LocalIndex, mine: Path) -> None:
    url = backends.url
    backends.stop()
    with pytest.raises(WheelError, match="tiny-backend"):
        vendoring.wheels(
            environ={"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": os.devnull, "UV_HTTP_RETRIES": "0"}
        )
    assert vendoring.progress.lines == []


def test_without_isolation_a_wheel_is_built_with_what_is_installed(
    vendoring: Vendoring, backends: LocalIndex, mine: Path
) -> None:
    environ = {"PIP_INDEX_URL": backends.url}
    assert made_by(vendoring.wheels(environ=environ)) == "3.0"
    backends.forget_requests()
    before = snapshot(vendoring.environment.prefix)
    assert made_by(vendoring.wheels(environ=environ, no_isolation=("Mine",))) == "1.0"
    assert snapshot(vendoring.environment.prefix) == before
    assert backends.requests == []
    assert made_by(vendoring.wheels(environ=environ)) == "3.0"
    # Another version of what it is built with makes another wheel of the same sources.
    vendoring.environment.install("tiny-backend==2.0", environ={"UV_DEFAULT_INDEX": backends.url})
    assert made_by(vendoring.wheels(environ=environ, no_isolation=("mine",))) == "2.0"


def test_without_isolation_missing_requirements_are_named(
    vendoring: Vendoring, backends: LocalIndex, mine: Path
) -> None:
    pyproject = mine / "pyproject.toml"
    pyproject.write_text(
        pyproject.read_text().replace(
            '"tiny-backend"]', '"tiny-backend>=2", "cython; python_version > \'3\'"]'
        )
    )
    with pytest.raises(WheelError, match=r"mine 1\.0 is built without isolation") as raised:
        vendoring.wheels(no_isolation=("mine",))
    python = vendoring.environment.python
    assert raised.value.message.endswith("cython, tiny-backend>=2")
    assert f"uv pip install --python {python} cython 'tiny-backend>=2'" in str(raised.value.hint)
    # What the installed backend requires itself counts as well.
    metadata = next(vendoring.environment.site_packages.glob("tiny_backend-*.dist-info/METADATA"))
    text = metadata.read_text().replace("\n\n", "\nRequires-Dist: absent>1\n\n")
    metadata.unlink()  # it may be a hard link into uv's cache
    metadata.write_text(text)
    pyproject.write_text(pyproject.read_text().replace(">=2", "").replace(', "cython', ', "tiny-backend'))
    with pytest.raises(WheelError, match=r": absent>1\n"):
        vendoring.wheels(no_isolation=("mine",))


def test_without_isolation_there_must_be_an_interpreter(environment: LocalEnvironment) -> None:
    plan = make_plan(scan(prefix=environment.prefix), settings=Settings(profile="none"))
    with pytest.raises(WheelError, match="only the files") as raised:
        installed_requirements(plan.python)
    assert "--python" in str(raised.value.hint)


NEEDS_INSTALLED = """
from setuptools import setup
import tiny_backend

setup(name="undeclared", version=f"1.{tiny_backend.VERSION}" if hasattr(tiny_backend, "VERSION") else "1.0",
      py_modules=["undeclared"])
"""


@pytest.fixture
def undeclared(vendoring: Vendoring, backends: LocalIndex, tmp_path: Path) -> Path:
    """Install a project whose setup.py imports an installed module that it doesn't declare."""
    folder = write(tmp_path / "undeclared", {"setup.py": NEEDS_INSTALLED, "undeclared.py": "A = 1\n"})
    vendoring.environment.install("tiny-backend==1.0", environ={"UV_DEFAULT_INDEX": backends.url})
    vendoring.environment.install("setuptools<81", "wheel")
    vendoring.environment.install("--no-build-isolation", str(folder))
    return folder


def test_build_that_lacks_an_installed_module_names_no_isolation(
    vendoring: Vendoring, undeclared: Path
) -> None:
    with pytest.raises(WheelError, match="No module named 'tiny_backend'") as raised:
        vendoring.wheels()
    assert str(raised.value.hint).startswith(
        "tiny_backend is installed here, and the build doesn't declare it: build undeclared with what is "
        "installed here (--no-isolation undeclared;"
    )
    (undeclared / "setup.py").write_text(NEEDS_INSTALLED.replace("import tiny_backend", "import nowhere"))
    with pytest.raises(WheelError, match="No module named 'nowhere'") as raised:
        vendoring.wheels()
    assert "no-isolation" not in str(raised.value.hint)


def test_no_isolation_auto_builds_with_the_installed_module(vendoring: Vendoring, undeclared: Path) -> None:
    wheel = vendoring.wheels(no_isolation=("auto",))["undeclared"]
    assert members(wheel) == {"undeclared.py"}
    assert [line for line in vendoring.progress.lines if "no-isolation" in line] == [
        "undeclared 1.0: its isolated build lacks the module tiny_backend, which is installed here; "
        "building without isolation (no-isolation = auto)"
    ]
    vendoring.progress.lines.clear()
    # The wheel is kept under the versions that it was built with.
    assert vendoring.wheels(no_isolation=("auto",))["undeclared"].digest == wheel.digest
    assert vendoring.progress.lines == []
    with pytest.raises(WheelError):
        vendoring.wheels()


WARNING_BACKEND = """
import warnings

from setuptools.build_meta import *
from setuptools.build_meta import build_wheel as build

def build_wheel(folder, config_settings=None, metadata_directory=None):
    warnings.warn("the table is old\\n\\nmore about it")
    warnings.warn("another thing")
    return build(folder, config_settings, metadata_directory)
"""


def test_warnings_of_a_backend_are_in_the_log_and_one_line_names_the_package(
    vendoring: Vendoring, tmp_path: Path
) -> None:
    system = SETUPTOOLS.replace("setuptools.build_meta", "own") + 'backend-path = ["."]\n'
    pyproject = f'{system}[project]\nname = "noisy"\nversion = "1.0"\n[tool.setuptools]\npy-modules = []\n'
    folder = write(tmp_path / "noisy", {"pyproject.toml": pyproject, "own.py": WARNING_BACKEND})
    vendoring.environment.install(str(folder))
    vendoring.wheels()  # a warning of this process would fail the test
    (line,) = vendoring.progress.lines
    (log,) = (vendoring.store.root / LOGS).iterdir()
    assert line == (
        f"warning: noisy 1.0: its build back-end warns: the table is old (and 1 more); the log is {log}"
    )
    assert "warning: the table is old\n\nmore about it\n" in log.read_text()
    assert "warning: another thing\n" in log.read_text()


MESON = """
project('mesonic', 'c', version: '1.0', default_options: ['debug=true'])
py = import('python').find_installation(pure: false)
py.extension_module('mesonic', 'mesonic.c', install: true)
"""
MESON_SOURCE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "mesonic", __FILE__, -1, NULL};
PyMODINIT_FUNC PyInit_mesonic(void) { return PyModule_Create(&module); }
"""


def test_meson_python_makes_the_same_wheel_again(vendoring: Vendoring, tmp_path: Path) -> None:
    pyproject = (
        '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n'
        '[project]\nname = "mesonic"\nversion = "1.0"\n'
        '[tool.meson-python.args]\nsetup = ["-Dbuildtype=debug"]\n'
    )
    files = {"pyproject.toml": pyproject, "meson.build": MESON, "mesonic.c": MESON_SOURCE}
    vendoring.environment.install(write(tmp_path / "mesonic", files))
    digests = set()
    for attempt in ("one", "two"):
        vendoring.store = Store(tmp_path / attempt)
        digests.add(vendoring.wheels()["mesonic"].digest)
    assert len(digests) == 1
