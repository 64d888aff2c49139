"""System libraries and programs that a base image lacks; the libraries are real ELF files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.plan.checks import shared_libraries
from imagesync.plan.checks.system_libraries import (
    SystemFiles,
    check_system_files,
    check_wheels,
    local_system_files,
)
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Finding, Interpreter, Package, Severity
from tests.elf import compile_library
from tests.indexes.wheels import make_wheel

BARE = SystemFiles(frozenset({"libc.so.6"}), frozenset({"sh"}))
GL = "libGL.so.1"
EXTENSION = "lamp/_light.cpython-311-x86_64-linux-gnu.so"


@dataclass(frozen=True)
class Bench:
    """An environment of wheels whose libraries are compiled here."""

    prefix: Path

    @property
    def site_packages(self) -> Path:
        return self.prefix / "lib" / "python3.11" / "site-packages"

    def install(self, name: str, *paths: str, **sources: str) -> PlannedPackage:
        """Return a planned package with the compiled files *paths*, and the modules *sources*."""
        for module, source in sources.items():
            path = f"{module}/__init__.py"
            (self.site_packages / path).parent.mkdir(parents=True, exist_ok=True)
            (self.site_packages / path).write_text(source)
            paths = (*paths, path)
        metadata = self.site_packages / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "RECORD").write_text("".join(f"{path},,\n" for path in paths))
        installed = Package(
            canonicalize_name(name),
            "1.0",
            location=str(self.site_packages),
            metadata_path=str(metadata),
            has_record=True,
        )
        return PlannedPackage(
            installed.name, "1.0", Level.COMPATIBLE, "~=1.0", "for a test", installed=installed
        )

    def check(
        self, *packages: PlannedPackage, here: SystemFiles = BARE, there: SystemFiles = BARE
    ) -> list[Finding]:
        python = Interpreter(
            "cpython", "3.11.7", "linux-x86_64", "cp311", "", str(self.prefix), "/usr", "glibc 2.36"
        )
        plan = Plan(python, packages)
        return list(check_system_files(plan, here=here, there=there, base="debian", cache=self.prefix / "c"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "env")


def with_libraries(*names: str) -> SystemFiles:
    return replace(BARE, libraries=BARE.libraries | {*names})


def test_library_that_an_import_needs_is_an_error_with_its_apt_entry(bench: Bench) -> None:
    compile_library(bench.site_packages / EXTENSION, needs=[GL, "libxcb.so.1"])
    lamp = bench.install("lamp", EXTENSION, lamp="from ._light import shine")
    (finding,) = bench.check(lamp)
    assert (finding.severity, finding.code, finding.package) == (Severity.ERROR, "system-library", "lamp")
    assert "lamp 1.0 needs libGL.so.1 and libxcb.so.1, which the base image debian lacks" in finding.message
    assert finding.hint == 'Add to the settings: apt = ["libgl1", "libxcb1"].'
    assert bench.check(lamp, there=with_libraries(GL, "libxcb.so.1")) == []


def test_library_that_several_packages_need_is_one_finding(bench: Bench) -> None:
    names = ("lamp", "torch", "wick")
    for name in names:
        compile_library(bench.site_packages / name / "_light.so", needs=[GL])
    packages = [bench.install(n, f"{n}/_light.so", **{n: "from ._light import a"}) for n in names[:2]]
    partly = bench.install("wick", "wick/_light.so", wick="")
    (finding,) = bench.check(*packages, partly, here=with_libraries(GL))
    assert finding.message == (
        "lamp 1.0, torch 1.0 and wick 1.0 need libGL.so.1, which the base image debian lacks:"
        " importing lamp 1.0 and torch 1.0 fails there, and a part of the other."
    )
    assert (finding.severity, finding.package) == (Severity.ERROR, None)


def test_library_that_only_a_part_needs_counts_if_it_resolves_here(bench: Bench) -> None:
    compile_library(bench.site_packages / EXTENSION, needs=[GL])
    lamp = bench.install("lamp", EXTENSION, lamp="")
    (finding,) = bench.check(lamp, here=with_libraries(GL))
    assert finding.severity is Severity.WARNING
    assert bench.check(lamp) == [], "it works neither here nor there"


def test_library_of_the_wheel_is_found_by_origin_and_looked_into(bench: Bench) -> None:
    compile_library(
        bench.site_packages / EXTENSION, needs=["libglow-1a2b.so.3"], runpath="$ORIGIN/../lamp.libs"
    )
    compile_library(bench.site_packages / "lamp.libs" / "libglow-1a2b.so.3", needs=[GL])
    lamp = bench.install("lamp", EXTENSION, "lamp.libs/libglow-1a2b.so.3", lamp="from ._light import shine")
    (finding,) = bench.check(lamp)
    assert finding.severity is Severity.ERROR
    assert finding.path == str(bench.site_packages / "lamp.libs" / "libglow-1a2b.so.3")
    assert "libglow" not in finding.message


def test_library_that_another_package_has_loaded_is_not_missing(bench: Bench) -> None:
    compile_library(bench.site_packages / EXTENSION, needs=["libarrow.so.2100"])
    compile_library(bench.site_packages / "quiver" / "libarrow.so.2100", soname="libarrow.so.2100")
    lamp = bench.install("lamp", EXTENSION, lamp="import quiver\nfrom ._light import shine")
    quiver = bench.install("quiver", "quiver/libarrow.so.2100", quiver="")
    assert bench.check(lamp, quiver) == []
    # The same name in the system here: the private copy may not be the one that is loaded.
    (finding,) = bench.check(lamp, quiver, here=with_libraries("libarrow.so.2100"))
    assert finding.package == "lamp"


def test_folder_outside_of_the_environment_is_not_there(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "opt"
    compile_library(outside / "libvendor.so.4")
    compile_library(bench.site_packages / EXTENSION, needs=["libvendor.so.4"], rpath=str(outside))
    (finding,) = bench.check(bench.install("lamp", EXTENSION, lamp=""))
    assert "libvendor.so.4" in finding.message
    assert "apt-file search libvendor.so.4" in str(finding.hint)


def test_driver_of_the_machine_is_no_fault(bench: Bench) -> None:
    compile_library(bench.site_packages / EXTENSION, needs=["libcuda.so.1", "libnvidia-ml.so.1"])
    lamp = bench.install("lamp", EXTENSION, lamp="from ._light import shine")
    assert bench.check(lamp, here=with_libraries("libcuda.so.1")) == []


def test_packages_without_libraries_and_files_that_are_gone_are_no_fault(bench: Bench) -> None:
    assert bench.check(bench.install("gone", EXTENSION), bench.install("pure", pure="")) == []


def test_files_of_another_platform_are_not_looked_at(bench: Bench) -> None:
    compile_library(bench.site_packages / EXTENSION, needs=[GL])
    lamp = bench.install("lamp", EXTENSION, lamp="from ._light import shine")
    python = Interpreter("cpython", "3.11.7", "macosx-14.0-arm64", "cp311", "", str(bench.prefix), "/usr")
    assert check_system_files(Plan(python, (lamp,)), here=BARE, there=BARE, base="debian") == ()


def test_wheels_say_what_the_image_of_another_platform_needs(tmp_path: Path) -> None:
    light = compile_library(
        tmp_path / "light.so", needs=["libglow-1a2b.so.3"], runpath="$ORIGIN/../lamp.libs"
    )
    glow = compile_library(tmp_path / "glow.so", needs=[GL])
    files = {
        "lamp/__init__.py": b"from ._light import shine",
        EXTENSION: light.read_bytes(),
        "lamp.libs/libglow-1a2b.so.3": glow.read_bytes(),
        "lamp-1.0.data/platlib/lamp/_part.so": glow.read_bytes(),
    }
    filename, data = make_wheel("lamp", "1.0", files=files)
    wheel = tmp_path / filename
    wheel.write_bytes(data)
    for _ in range(2):  # read, and remembered
        (finding,) = check_wheels(
            [("lamp", "1.0", wheel)], platform=LINUX_AMD64, there=BARE, base="debian", cache=tmp_path / "c"
        )
        assert (finding.severity, finding.package) == (Severity.ERROR, "lamp")
        assert finding.hint == 'Add to the settings: apt = ["libgl1"].'
    assert (
        check_wheels([("lamp", "1.0", wheel)], platform=LINUX_AMD64, there=with_libraries(GL), base="debian")
        == ()
    )


def test_unchanged_libraries_are_not_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compile_library(bench.site_packages / EXTENSION, needs=[GL])
    lamp = bench.install("lamp", EXTENSION, lamp="from ._light import shine")
    first = bench.check(lamp)
    read = []
    original = shared_libraries.read_dynamic
    monkeypatch.setattr(shared_libraries, "read_dynamic", lambda path: (read.append(path), original(path))[1])
    assert bench.check(lamp) == first
    assert read == []
    path.unlink()
    shutil.move(compile_library(bench.site_packages / "new.so"), path)
    assert bench.check(lamp) == []
    assert read == [str(path)]


def test_program_that_is_here_and_not_there_is_a_remark(bench: Bench) -> None:
    here = replace(BARE, programs=frozenset({"git"}))
    gitpython = bench.install("gitpython", git="")
    (finding,) = bench.check(gitpython, here=here)
    assert (finding.severity, finding.code) == (Severity.INFO, "system-program")
    assert 'apt = ["git"]' in str(finding.hint)
    assert bench.check(gitpython, here=here, there=here) == []
    assert bench.check(gitpython) == [], "nobody has it"


def test_this_machine_has_its_own_libraries_and_programs() -> None:
    here = local_system_files()
    assert "libc.so.6" in here.libraries
    assert "sh" in here.programs
