"""Wheels for the image's platform, built in a container of the base image from a machine that is another."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.errors import WheelError
from imagesync.image.base import ensure_base
from imagesync.image.builder import EngineContainer
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.pipeline.artifact_sources import ArtifactSources, open_artifact_sources
from imagesync.pipeline.artifacts import fetch_artifacts, make_wheels
from imagesync.pipeline.context import Context
from imagesync.pipeline.engine_finder import EngineFinder
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Interpreter, Source
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from imagesync.store.store import Store, StoredFile
from tests.environments import LocalEnvironment
from tests.indexes import LocalIndex
from tests.indexes.sdists import make_source_archive
from tests.indexes.wheels import make_wheel
from tests.plans import distribution
from tests.progress import RecordedLines

EXTENSION = """
#include <Python.h>
#include <math.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", "", -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""
# One backend for all of them, which compiles with what the base image has, asks for more when it is asked,
# and needs neither setuptools nor an index with thousands of packages.
BACKEND = """
import base64, hashlib, pathlib, subprocess, sysconfig, zipfile
NAME, VERSION = "@NAME@", "1.0"

def get_requires_for_build_wheel(config_settings=None):
    print("asked what else is needed")
    return ["late-helper==1.0"]

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import early_helper, late_helper
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    include = sysconfig.get_path("include")
    command = ["gcc", "-shared", "-fPIC", "-I", include, NAME + ".c", "-o", NAME + suffix]
    subprocess.run(command, check=True)
    minor = sysconfig.get_config_var("py_version_nodot")
    tag = "cp%s-cp%s-linux_x86_64" % (minor, minor)
    info = NAME + "-" + VERSION + ".dist-info/"
    files = {NAME + suffix: pathlib.Path(NAME + suffix).read_bytes(),
             info + "METADATA": b"Metadata-Version: 2.1\\nName: @NAME@\\nVersion: 1.0\\n",
             info + "WHEEL": ("Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: %s\\n" % tag).encode()}
    record = info + "RECORD,,\\n"
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\\n" % (path, digest, len(data))
    files[info + "RECORD"] = record.encode()
    name = NAME + "-" + VERSION + "-" + tag + ".whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return name
"""
PYPROJECT = '[build-system]\nrequires = ["early-helper"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def sources_of(name: str) -> dict[str, str]:
    return {
        "pyproject.toml": PYPROJECT,
        "backend.py": BACKEND.replace("@NAME@", name),
        f"{name}.c": EXTENSION.replace("NAME", name),
    }


def sdist_of(name: str, **changes: str) -> tuple[str, bytes]:
    return make_source_archive(name, "1.0", {**sources_of(name), **changes})


@pytest.fixture(scope="module")
def base(root_image: str) -> BaseImage:
    with Engine(find_endpoint(os.environ)) as engine:
        return ensure_base(engine, settings=Settings(base=root_image), progress=SilentProgress())


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as running:
        running.add_wheel("early-helper", "1.0")
        # Build requirements may be sdists themselves.
        pure = 'build-backend = "backend"\nbackend-path = ["."]\n'
        _, late = make_wheel("late-helper", "1.0")
        backend = (
            "import pathlib\n"
            "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
            "    name = 'late_helper-1.0-py3-none-any.whl'\n"
            f"    pathlib.Path(folder, name).write_bytes({late!r})\n"
            "    return name\n"
        )
        pyproject = f"[build-system]\nrequires = []\n{pure}[project]\nname = 'late-helper'\nversion = '1.0'\n"
        running.add_file(
            *make_source_archive("late-helper", "1.0", {"pyproject.toml": pyproject, "backend.py": backend})
        )
        yield running


class Building:
    """A machine that says it is a Mac, with an engine beside it."""

    def __init__(self, base: BaseImage, index: LocalIndex, folder: Path, **variables: str) -> None:
        self.index = index
        self.store = Store(folder / "store")
        self.progress = RecordedLines()
        self.target = Target(LINUX_AMD64, base.python_version, base.glibc)
        python = Interpreter(
            *("cpython", base.python_version, "macosx-14.0-arm64"),
            *(f"cp{base.minor.replace('.', '')}", "", str(folder), "/usr"),
        )
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(folder / "uv"),
            "UV_HTTP_RETRIES": "0",
            "PIP_INDEX_URL": index.url,
            **variables,
        }
        context = Context(Settings(cache_dir=self.store.root), environ, self.progress)
        sources = open_artifact_sources(Plan(python, ()), context)
        finder = EngineFinder(Context(Settings(base=base.root, cache_dir=self.store.root), dict(os.environ)))
        # Made on the base with a compiler, which an image of an environment doesn't have.
        self.container = EngineContainer(base, lambda: finder.base_for_wheels(base))
        self.sources: ArtifactSources = replace(sources, container=self.container)

    def add(self, name: str, **changes: str) -> LockedPackage:
        filename = self.index.add_file(*sdist_of(name, **changes))
        artifact = Artifact(filename, self.index.file_url(filename), self.index.digest(filename))
        return LockedPackage(name, "1.0", artifact)

    def fetch(self, *packages: LockedPackage) -> tuple[StoredFile, ...]:
        return fetch_artifacts(Lock(self.target, packages), self.sources).packages.wheels

    def log(self, package: LockedPackage) -> str:
        return (self.store.root / "logs" / f"{package.name}-1.0.log").read_text()


@pytest.fixture
def building(base: BaseImage, index: LocalIndex, tmp_path: Path) -> Building:
    return Building(base, index, tmp_path)


def test_extension_modules_are_built_for_the_image(building: Building, base: BaseImage) -> None:
    packages = [building.add("amber"), building.add("beryl")]
    wheels = building.fetch(*packages)
    tag = f"cp{base.minor.replace('.', '')}"
    assert [wheel.filename for wheel in wheels] == [
        f"{name}-1.0-{tag}-{tag}-linux_x86_64.whl" for name in ("amber", "beryl")
    ]
    unpack = "import io, sys, zipfile; sys.path.insert(0, '/tmp'); "
    unpack += "zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())).extractall('/tmp'); "
    script = f"{unpack}import beryl; print(beryl.answer())"
    assert building.container.run(script, stdin=wheels[1].path.read_bytes(), log=print) == (0, b"42\n")
    assert "asked what else is needed" in building.log(packages[0])


def test_local_project_with_extension_modules_is_built_there_and_its_folder_stays_as_it_is(
    building: Building, base: BaseImage, tmp_path: Path
) -> None:
    folder = tmp_path / "amber"
    folder.mkdir()
    files = sources_of("amber")
    for name, text in files.items():
        (folder / name).write_text(text)
    source = Source("directory", folder.as_uri(), editable=True)
    name, installed = (
        canonicalize_name("amber"),
        distribution("amber==1.0", source=source, tags=("cp311-cp311-macosx_14_0_arm64",)),
    )
    planned = PlannedPackage(name, "1.0", Level.EXACT, "==1.0", "", source, installed=installed)
    vendored = VendoredPackage(name, "1.0", "sha256:1", planned)
    lock, (wheel,) = make_wheels(Lock(building.target, (), (vendored,)), building.sources)
    assert wheel.filename.endswith("-linux_x86_64.whl")
    said = "amber 1.0 is built for linux/amd64 in a container"
    assert building.progress.lines.count(said) == 1
    assert make_wheels(lock, building.sources) == (lock, (wheel,))
    assert building.progress.lines.count(said) == 1
    assert {path.name: path.read_text() for path in folder.iterdir()} == files


def test_what_was_built_is_remembered_for_that_base(building: Building) -> None:
    package = building.add("amber")
    before = building.fetch(package)
    log = building.store.root / "logs" / "amber-1.0.log"
    log.unlink()
    assert building.fetch(package) == before
    assert not log.exists()


def test_a_build_that_fails_ends_with_its_log(building: Building) -> None:
    package = building.add("amber", **{"amber.c": "#error no amber today\n"})
    with pytest.raises(WheelError, match="no amber today") as caught:
        building.fetch(package)
    path = re.search(r"/\S+\.log", str(caught.value.hint))
    assert path is not None
    assert "gcc" in Path(path[0]).read_text()


def test_a_build_without_an_engine_names_the_package_that_needs_one(
    building: Building, base: BaseImage, tmp_path: Path
) -> None:
    variables = {"DOCKER_HOST": "tcp://127.0.0.1:1"}
    finder = EngineFinder(Context(Settings(base=base.root, cache_dir=tmp_path), variables))
    nowhere = EngineContainer(base, lambda: finder.base_for_wheels(replace(base, image_id="")))
    building.sources = replace(building.sources, container=nowhere)
    with pytest.raises(
        WheelError, match=r"amber 1\.0 has no wheel for linux/amd64.* in a container"
    ) as caught:
        building.fetch(building.add("amber"))
    assert "No container engine answers" in caught.value.message


def test_a_build_has_no_network(building: Building) -> None:
    backend = "import socket\nsocket.create_connection(('1.1.1.1', 443), timeout=5)\n"
    package = building.add("amber", **{"backend.py": backend})
    with pytest.raises(WheelError, match="unreachable"):
        building.fetch(package)


def test_constraints_hold_for_build_requirements(base: BaseImage, index: LocalIndex, tmp_path: Path) -> None:
    index.add_wheel("early-helper", "2.0")
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "constraints.txt").write_text("early-helper<2  # the last good one\n")
    place = (folder / "constraints.txt").as_uri()
    # The backend shows which version it got.
    shown = BACKEND.replace("@NAME@", "amber").replace(
        "import early_helper, late_helper",
        "import early_helper, late_helper; print(early_helper.__version__)",
    )
    free = Building(base, index, tmp_path / "free")
    package = free.add("amber", **{"backend.py": shown})
    free.fetch(package)
    assert "\n2.0\n" in free.log(package)
    constrained = Building(base, index, tmp_path / "constrained", PIP_CONSTRAINT=place)
    constrained.fetch(package)
    assert "\n1.0\n" in constrained.log(package)


def test_an_index_that_is_silent_does_not_end_it(base: BaseImage, index: LocalIndex, tmp_path: Path) -> None:
    gone = LocalIndex()
    gone.start()
    url = gone.url
    gone.stop()
    building = Building(base, index, tmp_path, PIP_INDEX_URL=url, PIP_EXTRA_INDEX_URL=index.url)
    (wheel,) = building.fetch(building.add("amber"))
    assert wheel.filename.startswith("amber-1.0-")
    assert [line for line in building.progress.lines if url in line and "doesn't answer" in line]


def test_build_requirements_that_nobody_has(
    building: Building, index: LocalIndex, environment: Callable[..., LocalEnvironment]
) -> None:
    pyproject = PYPROJECT.replace('"early-helper"', '"undug>=9"')
    package = building.add("amber", **{"pyproject.toml": pyproject})
    with pytest.raises(WheelError, match="undug") as caught:
        building.fetch(package)
    assert "undug" in building.log(package)
    assert str(building.store.root / "logs" / "amber-1.0.log") in str(caught.value.hint)
    # Where it is installed here, its files stand in for it.
    filename, wheel = make_wheel("amber", "1.0")
    (building.store.root / filename).write_bytes(wheel)
    local = environment(str(building.store.root / filename))
    (planned,) = make_plan(scan(python=local.python, environ={}), settings=Settings(profile="none")).packages[
        :1
    ]
    artifacts = fetch_artifacts(Lock(building.target, (replace(package, planned=planned),)), building.sources)
    (standing_in,) = artifacts.lock.repacked
    assert "amber-1.0.tar.gz can't be built" in standing_in.repacked
    assert [wheel.filename for wheel in artifacts.vendored.wheels] == [filename]
