from __future__ import annotations

import csv
import io
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import installer
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import WheelError
from imagesync.lock.lock import Target
from imagesync.scan.environment import Environment, Interpreter, Package
from imagesync.scan.modifications.compare import find_modifications
from imagesync.wheels.repack import is_portable, portable_digest, repack
from imagesync.wheels.sources.eggs import read_egg_files
from imagesync.wheels.sources.source_digests import record_digest
from imagesync.wheels.wheel_checks import check_wheel, other_files
from tests.archives import damaged_zip
from tests.indexes.wheels import make_wheel
from tests.plans import distribution

TARGET = Target(LINUX_AMD64, "3.11.2", (2, 36))


def interpreter(prefix: Path, **changes: str) -> Interpreter:
    values = {
        "implementation": "cpython",
        "version": "3.11.7",
        "platform": "linux-x86_64",
        "abi": "cp311",
        "executable": sys.executable,
        "prefix": str(prefix),
        "base_prefix": "/usr",
        "libc": "glibc 2.36",
    }
    return Interpreter(**{**values, **changes})


def install(filename: str, content: bytes, prefix: Path) -> Package:
    """Install a wheel below *prefix* as installers do, and return it as a scan would."""
    site = prefix / "lib/python3.11/site-packages"
    schemes = {
        "purelib": site,
        "platlib": site,
        "scripts": prefix / "bin",
        "data": prefix,
        "headers": prefix / "include/site/python3.11/demo",
    }
    destination = SchemeDictionaryDestination(
        {scheme: str(folder) for scheme, folder in schemes.items()},
        interpreter=f"{prefix}/bin/python",
        script_kind="posix",
        bytecode_optimization_levels=[0],
    )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # installer looks for the name in the archive's file name.
        archive.filename = filename
        source = WheelFile(archive)
        installer.install(
            source, destination, {"INSTALLER": b"test\n", "direct_url.json": b"{}", "REQUESTED": b""}
        )
    tag = filename.removesuffix(".whl").split("-", 2)[2]
    stem = "-".join(filename.split("-")[:2])
    return Package(
        name="demo",
        version="1.0",
        purelib=tag.endswith("none-any"),
        location=str(site),
        metadata_path=str(site / f"{stem}.dist-info"),
        tags=(tag,),
        has_record=True,
    )


def members(wheel: bytes | Path) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(wheel) if isinstance(wheel, bytes) else wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


FILES: Mapping[str, bytes] = {
    "demo/__init__.py": b"def main(): pass\n",
    "demo/data/table.csv": b"a,b\n",
    "demo/naïve name.txt": b"text",
    "demo_top.py": b"",
    "demo-1.0.dist-info/entry_points.txt": (
        b"[console_scripts]\ndemo = demo:main\n\n[gui_scripts]\ndemo-gui=demo:main\n"
    ),
    "demo-1.0.dist-info/licenses/LICENSE": b"BSD",
    "demo-1.0.data/scripts/tool": b"#!python\nprint(1)\n",
    "demo-1.0.data/scripts/tool2": b"#!/usr/bin/env python3\nprint(1)\n",
    "demo-1.0.data/scripts/tool.sh": b"#!/bin/sh\necho 1\n",
    "demo-1.0.data/data/share/demo/x.conf": b"x",
    "demo-1.0.data/headers/demo.h": b"int x;",
}


def without_record(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in contents.items() if not name.endswith("/RECORD")}


@pytest.mark.parametrize("prefix", ["env", "env with spaces é", "a/" + "long/" * 30])
def test_repacked_wheel_has_the_files_of_the_installed_one(tmp_path: Path, prefix: str) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    package = install(filename, content, tmp_path / prefix)
    repacked = repack(package, python=interpreter(tmp_path / prefix), into=tmp_path)
    assert repacked.path.name == filename
    assert without_record(members(repacked.path)) == without_record(members(content))
    check_wheel(repacked.path, filename=repacked.path.name, target=TARGET)


def test_record_of_a_repacked_wheel_is_valid(tmp_path: Path) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    package = install(filename, content, tmp_path / "env")
    repacked = repack(package, python=interpreter(tmp_path / "env"), into=tmp_path)
    with WheelFile.open(repacked.path) as source:
        source.validate_record()


def test_repacked_wheel_is_the_same_for_any_prefix(tmp_path: Path) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    wheels = []
    for name in ("one", "another"):
        prefix = tmp_path / name
        package = install(filename, content, prefix)
        for path in prefix.rglob("*.py"):
            os.utime(path, (len(name) * 10**8, len(name) * 10**8))
        (prefix / "out").mkdir()
        wheels.append(repack(package, python=interpreter(prefix), into=prefix / "out").path.read_bytes())
    assert wheels[0] == wheels[1]


def test_repacked_wheel_keeps_executable_bits(tmp_path: Path) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    package = install(filename, content, tmp_path)
    Path(package.location, "demo/data/table.csv").chmod(0o755)
    with zipfile.ZipFile(repack(package, python=interpreter(tmp_path), into=tmp_path).path) as archive:
        modes = {member.filename: member.external_attr >> 16 for member in archive.infolist()}
    assert modes["demo/data/table.csv"] == 0o100755
    assert modes["demo-1.0.data/scripts/tool"] == 0o100755
    assert modes["demo/__init__.py"] == 0o100644


def test_repack_takes_edited_files_and_leaves_deleted_ones_out(tmp_path: Path) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    package = install(filename, content, tmp_path)
    before = record_digest(package)
    Path(package.location, "demo_top.py").write_text("edited")
    Path(package.location, "demo/data/table.csv").unlink()
    assert record_digest(package) == before
    repacked = repack(package, python=interpreter(tmp_path), into=tmp_path)
    assert "demo/data/table.csv" not in members(repacked.path)
    assert members(repacked.path)["demo_top.py"] == b"edited"


NAMES = st.text(
    # installer breaks lines of RECORD as `str.splitlines` does.
    st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"], exclude_characters='/\\:*?"<>|,'),
    min_size=1,
    max_size=20,
).filter(lambda name: name.strip(". ") == name and not name.endswith((".pyc", ".pyo")))
TREES = st.dictionaries(st.tuples(NAMES, NAMES), st.binary(max_size=200), max_size=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_repack_keeps_any_files(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[tuple[str, str], bytes]
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    files = {f"demo/{folder}.d/{name}": content for (folder, name), content in tree.items()}
    filename, content = make_wheel("demo", "1.0", files=files)
    package = install(filename, content, tmp_path / "env")
    repacked = repack(package, python=interpreter(tmp_path / "env"), into=tmp_path)
    assert without_record(members(repacked.path)) == without_record(members(content))


@pytest.mark.parametrize(
    ("tag", "python", "expected"),
    [
        ("py3-none-any", {"platform": "macosx-14.0-arm64", "version": "3.9.1"}, True),
        ("cp311-cp311-linux_x86_64", {}, True),
        ("cp311-cp311-linux_x86_64", {"version": "3.12.1"}, False),
        ("cp311-cp311-linux_x86_64", {"libc": "musl 1.2"}, False),
        ("cp311-cp311-linux_x86_64", {"implementation": "pypy"}, False),
        ("cp311-cp311-macosx_14_0_arm64", {"platform": "macosx-14.0-arm64"}, False),
    ],
)
def test_portable_packages_are_pure_or_of_the_same_platform(
    tmp_path: Path, tag: str, python: dict[str, str], expected: bool
) -> None:
    package = install(*make_wheel("demo", "1.0", tag=tag), tmp_path)
    assert is_portable(package, python=interpreter(tmp_path, **python), target=TARGET) is expected


def test_repack_omits_files_outside_of_the_environment(tmp_path: Path) -> None:
    package = install(*make_wheel("demo", "1.0"), tmp_path / "env")
    (tmp_path / "stray").write_text("x")
    record = Path(package.metadata_path, "RECORD")
    record.write_text(record.read_text() + f"../../../../stray,,\n{tmp_path}/stray,,\n")
    repacked = repack(package, python=interpreter(tmp_path / "env"), into=tmp_path)
    assert not [name for name in members(repacked.path) if "stray" in name]


def test_record_quotes_names_with_commas(tmp_path: Path) -> None:
    package = install(*make_wheel("demo", "1.0"), tmp_path)
    name = 'a, "b".txt'
    Path(package.location, name).write_text("x")
    with Path(package.metadata_path, "RECORD").open("a", newline="") as stream:
        csv.writer(stream).writerow((name, "", ""))
    repacked = repack(package, python=interpreter(tmp_path), into=tmp_path)
    with WheelFile.open(repacked.path) as source:
        source.validate_record()
    assert members(repacked.path)[name] == b"x"


def test_repacked_wheel_has_compressed_tag_sets(tmp_path: Path) -> None:
    package = install(*make_wheel("demo", "1.0", tag="py2.py3-none-any"), tmp_path)
    assert (
        repack(package, python=interpreter(tmp_path), into=tmp_path).path.name
        == "demo-1.0-py2.py3-none-any.whl"
    )


def add_to_record(package: Package, *rows: tuple[str, str]) -> None:
    with (Path(package.metadata_path) / "RECORD").open(
        "a", newline="", encoding="utf-8", errors="surrogateescape"
    ) as record:
        # By hand, because the writer of CPython 3.10 refuses null characters.
        record.writelines(f'"{path}",{digest},\n' for path, digest in rows)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "home/.ssh/id_rsa"
    path.parent.mkdir(parents=True)
    path.write_text("secret")
    return path


def test_file_outside_of_the_environment_is_not_repacked(tmp_path: Path, secret: Path) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    package = install(filename, content, tmp_path / "env")
    site = Path(package.location)
    (site / "demo/key").symlink_to(secret)
    (site / "demo/__init__.py").unlink()
    (site / "demo/__init__.py").symlink_to(secret)
    (site / "demo/folder").symlink_to(secret.parent)
    (site / "demo/device").symlink_to("/dev/zero")
    (site / "demo/circle").symlink_to("circle")
    os.mkfifo(site / "demo/pipe")
    (tmp_path / "env/share/keys").symlink_to(secret.parent)
    linked = ("demo/__init__.py", "demo/key", "demo/folder/id_rsa", "demo/device", "demo/circle", "demo/pipe")
    refused = (*linked, "demo/data", "../../../share/keys/id_rsa")
    up = "../" * len(site.parts)
    outside = (
        str(secret),
        f"demo/{up}..{secret}",
        f"demo-1.0.dist-info/{up}../{secret}",
        f"../{up}{secret}",
        f"demo/{up}x",
    )
    name = b"demo/\xff".decode(errors="surrogateescape")
    (site / name).write_text("")
    nowhere = (name, ".", "demo/..", "../../..", "nul\0", "demo/" + "long/" * 2000)
    add_to_record(package, *((path, "") for path in (*refused[1:], *outside, *nowhere)))
    repacked = repack(package, python=interpreter(tmp_path / "env"), into=tmp_path)
    contents = members(repacked.path)
    assert b"secret" not in contents.values()
    assert set(refused) <= set(repacked.refused)
    assert set(contents) == set(members(content)) - {"demo/__init__.py"}
    check_wheel(repacked.path, filename=repacked.path.name, target=TARGET)
    assert portable_digest(package, python=interpreter(tmp_path / "env"), target=TARGET)


@pytest.mark.parametrize("digest", ["sha256=a", "sha256=é", "sha256=", "sha256", "=", "md5=x"])
def test_digest_that_is_none_gives_no_file_outside(tmp_path: Path, secret: Path, digest: str) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    package = install(filename, content, tmp_path / "env")
    (Path(package.location) / "demo/key").symlink_to(secret)
    add_to_record(package, ("demo/key", digest))
    environment = Environment(interpreter(tmp_path / "env"), (package,))
    assert not find_modifications(environment).packages or digest == "sha256=a"
    assert repack(package, python=interpreter(tmp_path / "env"), into=tmp_path).refused == ("demo/key",)


@pytest.mark.parametrize("is_linked", [False, True])
def test_files_linked_into_the_cache_of_an_installer_are_repacked(tmp_path: Path, is_linked: bool) -> None:
    # As uv does with --link-mode symlink, and conda with always_softlink; the prefix may be a link itself.
    filename, content = make_wheel("demo", "1.0", files=FILES)
    real = tmp_path / "real"
    real.mkdir()
    prefix = tmp_path / "env"
    prefix.symlink_to(real) if is_linked else real.rename(prefix)
    package = install(filename, content, prefix)
    cache = tmp_path / "cache/archive-v0/b7f9"
    cache.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in prefix.rglob("*") if path.is_file())):
        path.rename(cache / str(number))
        path.symlink_to(cache / str(number))
    (prefix / "lib64").symlink_to("lib")
    repacked = repack(package, python=interpreter(prefix), into=tmp_path)
    assert without_record(members(repacked.path)) == without_record(members(content))
    assert repacked.refused == ()


def test_wheel_of_other_sources_differs_from_the_installed_files(tmp_path: Path) -> None:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    package = install(filename, content, tmp_path / "env")
    (tmp_path / filename).write_bytes(content)
    assert other_files(tmp_path / filename, package) == ()
    _, changed = make_wheel("demo", "1.0", files={**FILES, "demo_top.py": b"later", "demo/new.py": b""})
    (tmp_path / filename).write_bytes(changed)
    assert other_files(tmp_path / filename, package) == ("demo/new.py", "demo_top.py")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_egg_is_named(tmp_path: Path, method: int) -> None:
    egg = tmp_path / "demo-1.0-py3.11.egg"
    egg.write_bytes(damaged_zip({"demo.py": b"x = 1\n" * 99}, method=method))
    package = distribution("demo==1.0", location=str(egg), metadata_path=str(egg))
    with pytest.raises(WheelError, match=r"demo 1\.0: the egg .* can't be read"):
        list(read_egg_files(package))
