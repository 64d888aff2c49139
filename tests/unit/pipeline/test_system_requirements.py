"""System requirements of packages, reported or refused under ``strict``; this machine is the base image."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.background import BackgroundCall
from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.engine.lookup import Lookup
from imagesync.engine.run_container import RunRequest, RunResult
from imagesync.errors import BaseImageError
from imagesync.image.base_files import base_system_files, remembered_system_files
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.lock.lockfile.save import save
from imagesync.lock.lockfile.write import Bundle
from imagesync.pipeline.context import Context
from imagesync.pipeline.engine_builder import EngineBuilder
from imagesync.pipeline.engine_finder import EngineFinder
from imagesync.pipeline.environment_inputs import environment_inputs
from imagesync.pipeline.environment_plan import remembered_system_findings
from imagesync.pipeline.lock_file_inputs import lock_file_inputs
from imagesync.pipeline.system_requirements import check_fetched, check_installed
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Environment, Interpreter, Package
from imagesync.settings.model import Settings
from imagesync.store.store import StoredFile
from tests.elf import compile_library
from tests.indexes.wheels import make_wheel
from tests.progress import RecordedLines

LINUX = Interpreter(
    "cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr", "glibc 2.36"
)
MAC = replace(LINUX, platform="macosx-14.0-arm64", libc="")
BASE = BaseImage(
    "base", "debian", "sha256:1", "sha256:2", "3.11.2", sys.executable, (2, 36), "sha256:" + "3" * 64
)
LIBRARY = "libnobody-has.so.7"


@dataclass
class ThisMachine:
    """Runs the programs of a base image here."""

    requests: list[RunRequest] = field(default_factory=list)

    def run(self, request: RunRequest) -> RunResult:
        self.requests.append(request)
        done = subprocess.run(request.command, capture_output=True, check=False)
        return RunResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def lamp(tmp_path: Path) -> Package:
    """Return an installed package whose import needs a library that no system has."""
    site_packages = tmp_path / "site-packages"
    compile_library(site_packages / "lamp" / "_light.so", needs=[LIBRARY])
    (site_packages / "lamp" / "__init__.py").write_text("from . import _light\n")
    metadata = site_packages / "lamp-1.0.dist-info"
    metadata.mkdir()
    (metadata / "RECORD").write_text("lamp/__init__.py,,\nlamp/_light.so,,\n")
    return Package(
        canonicalize_name("lamp"),
        "1.0",
        location=str(site_packages),
        metadata_path=str(metadata),
        has_record=True,
    )


@pytest.fixture
def lines() -> RecordedLines:
    return RecordedLines()


@pytest.fixture
def context(tmp_path: Path, lines: RecordedLines) -> Context:
    settings = Settings(profile="none", cache_dir=tmp_path / "cache", base="debian")
    return Context(settings, progress=lines)


def test_installed_packages_are_reported_and_the_base_is_asked_once(
    context: Context, lines: RecordedLines, lamp: Package
) -> None:
    engine, inputs = ThisMachine(), environment_inputs(Environment(LINUX, (lamp,)), context)
    assert remembered_system_findings(inputs.plan, context) == ()
    for _ in range(2):
        check_installed(engine, inputs, BASE)
    assert len(engine.requests) == 1
    assert f"warning: lamp 1.0 needs {LIBRARY}, which the base image debian lacks" in "\n".join(lines.lines)
    (finding,) = remembered_system_findings(inputs.plan, context)
    assert finding.package == "lamp"


def test_environment_of_conda_is_checked_against_the_stage_that_it_stands_on(
    context: Context, lamp: Package
) -> None:
    class Engine(ThisMachine):
        def inspect(self, reference: str) -> str:
            return reference

    engine, inputs = Engine(), environment_inputs(Environment(LINUX, (lamp,)), context)
    conda = replace(inputs, plan=replace(inputs.plan, interpreter="conda"))
    for _ in range(2):
        check_installed(engine, conda, BASE)
    assert [request.image for request in engine.requests] == ["base-minimal"]
    (finding,) = remembered_system_findings(conda.plan, context)
    assert finding.package == "lamp"
    assert remembered_system_findings(inputs.plan, context) == ()
    of_python = base_system_files(
        engine, BASE, settings=context.settings, stage="runtime", cache=context.cache_folder
    )
    of_shell = remembered_system_files(context.settings, stage="minimal", cache=context.cache_folder)
    assert of_shell == of_python
    other = replace(context, settings=replace(context.settings, apt=("libgl1",)))
    assert remembered_system_findings(conda.plan, other) == ()


def test_strict_refuses_what_fails_on_import(context: Context, lines: RecordedLines, lamp: Package) -> None:
    strict = replace(context, settings=replace(context.settings, strict=True))
    inputs = environment_inputs(Environment(LINUX, (lamp,)), strict)
    with pytest.raises(BaseImageError, match=r"strict allows none to fail:\n- lamp 1\.0 needs") as caught:
        check_installed(ThisMachine(), inputs, BASE)
    assert LIBRARY in str(caught.value.hint)
    Path(lamp.location, "lamp", "__init__.py").write_text("")
    check_installed(ThisMachine(), environment_inputs(Environment(LINUX, ()), strict), BASE)


def test_wheels_are_read_for_an_environment_of_another_platform(
    context: Context, lines: RecordedLines, lamp: Package, tmp_path: Path
) -> None:
    files = {"lamp/__init__.py": b"from . import _light", "lamp/_light.so": b""}
    files["lamp/_light.so"] = Path(lamp.location, "lamp", "_light.so").read_bytes()
    filename, data = make_wheel("lamp", "1.0", tag="py3-none-manylinux_2_17_x86_64", files=files)
    path = tmp_path / "blob"
    path.write_bytes(data)
    wheel = StoredFile(filename, path, "sha256:4", len(data))
    for python, said in ((LINUX, False), (MAC, True)):
        inputs = environment_inputs(Environment(python, (lamp,)), context)
        check_fetched(ThisMachine(), inputs, BASE, wheels=[wheel])
        assert (f"warning: lamp 1.0 needs {LIBRARY}" in "\n".join(lines.lines)) is said


@dataclass(frozen=True)
class HasThisMachine(Context):
    """A context whose engine is this machine."""

    def open_engine(self) -> Any:
        return nullcontext(ThisMachine())


@pytest.mark.parametrize("strict", [True, False])
def test_wheels_of_a_lock_file_are_checked_before_a_look_up_if_strict_and_else_in_a_build(
    lamp: Package, tmp_path: Path, lines: RecordedLines, strict: bool
) -> None:
    files = {"lamp/__init__.py": b"from . import _light"}
    files["lamp/_light.so"] = Path(lamp.location, "lamp", "_light.so").read_bytes()
    filename, data = make_wheel("lamp", "1.0", tag="py3-none-manylinux_2_17_x86_64", files=files)
    (tmp_path / filename).write_bytes(data)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    planned = PlannedPackage(lamp.name, "1.0", Level.EXACT, "==1.0", "")
    artifact = Artifact(filename, (tmp_path / filename).as_uri(), digest)
    lock = Lock(Target(LINUX_AMD64, "3.11.2", (2, 36)), (LockedPackage(lamp.name, "1.0", artifact),), ())
    path = tmp_path / "conda-lock.yml"
    save((Bundle(Plan(LINUX, (planned,)), lock),), path, "conda-lock")
    settings = Settings(cache_dir=tmp_path / "cache", base="debian", strict=strict)
    inputs = lock_file_inputs(path, HasThisMachine(settings, progress=lines), base=lambda: BASE)
    finder = EngineFinder(inputs.context)
    finder._query = BackgroundCall(lambda: Lookup("sha256:1", ()))
    builder = EngineBuilder(inputs, BASE, finder)
    if strict:
        with pytest.raises(BaseImageError, match=rf"lamp 1\.0 needs {LIBRARY}"):
            builder.refuse_failing_imports()
    else:
        builder.refuse_failing_imports()
        builder.single_stage_context(ThisMachine())
        assert f"lamp 1.0 needs {LIBRARY}" in "\n".join(lines.lines)


def test_base_image_that_cannot_be_listed_is_named(context: Context, lamp: Package) -> None:
    inputs = environment_inputs(Environment(LINUX, (lamp,)), context)
    with pytest.raises(BaseImageError, match="libraries of the base image debian can't be listed"):
        check_installed(ThisMachine(), inputs, replace(BASE, python_executable="/bin/false"))
