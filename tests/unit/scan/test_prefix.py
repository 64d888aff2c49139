"""Prefixes that are read as files: of other platforms, moved, and incomplete."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import ScanError
from imagesync.lock.lock import Target
from imagesync.scan.environment import Environment
from imagesync.scan.environment_files import platform_of_executable
from imagesync.scan.scan import scan
from imagesync.settings.bases import bases_with
from imagesync.wheels.repack import portable_digest
from tests.commands import clean_environ

TARGET = Target(LINUX_AMD64, "3.11.2", (2, 36))


def install(site: Path, name: str, *, tag: str = "py3-none-any") -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (folder / "WHEEL").write_text(f"Root-Is-Purelib: {str(tag.endswith('any')).lower()}\nTag: {tag}\n")
    (folder / "RECORD").write_text("")


def scanned(prefix: Path) -> Environment:
    return scan(prefix=prefix, environ=clean_environ())


def test_windows_environment_is_read_from_its_files(tmp_path: Path) -> None:
    install(tmp_path / "Lib" / "site-packages", "numpy", tag="cp312-cp312-win_amd64")
    (tmp_path / "pyvenv.cfg").write_text(
        "home = C:\\Python312\nimplementation = CPython\nversion_info = 3.12.4.final.0\n"
        "include-system-site-packages = false\n"
    )
    result = scanned(tmp_path)
    python = result.python
    assert (python.version, python.platform, python.abi) == ("3.12.4", "win-amd64", "cp312")
    assert (python.implementation, python.executable) == ("cpython", "")
    assert python.base_prefix == "C:\\Python312"
    assert python.markers["sys_platform"] == "win32"
    assert python.markers["platform_machine"] == "AMD64"
    assert [package.name for package in result.packages] == ["numpy"]
    assert result.packages[0].purelib is False


def test_macos_framework_is_read_from_its_files(tmp_path: Path) -> None:
    prefix = tmp_path / "Python.framework" / "Versions" / "3.11"
    install(prefix / "lib" / "python3.11" / "site-packages", "numpy", tag="cp311-cp311-macosx_11_0_arm64")
    (prefix / "include" / "python3.11").mkdir(parents=True)
    (prefix / "include" / "python3.11" / "patchlevel.h").write_text('#define PY_VERSION  "3.11.9"\n')
    python = scanned(prefix).python
    assert (python.version, python.platform, python.abi) == ("3.11.9", "macosx-11.0-arm64", "cp311")
    assert python.markers["platform_system"] == "Darwin"


def test_conda_environment_is_read_from_its_files(tmp_path: Path) -> None:
    install(tmp_path / "lib" / "python3.10" / "site-packages", "a", tag="cp310-cp310-manylinux_2_17_aarch64")
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta" / "python-3.10.14-hd12c33a_0_cpython.json").write_text("{}")
    (tmp_path / "conda-meta" / "python-dateutil-2.9.0-py_0.json").write_text("{}")
    python = scanned(tmp_path).python
    assert (python.version, python.platform) == ("3.10.14", "linux-aarch64")


def test_pth_files_are_read_and_not_run(tmp_path: Path) -> None:
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    install(site, "a")
    install(tmp_path / "more", "b")
    (site / "x.pth").write_text(f"import os; os.mkdir({str(tmp_path / 'run')!r})\n{tmp_path / 'more'}\n")
    assert [package.name for package in scanned(tmp_path / "env").packages] == ["a", "b"]
    assert not (tmp_path / "run").exists()


def test_system_packages_of_a_virtual_environment_are_read(tmp_path: Path) -> None:
    install(tmp_path / "base" / "lib" / "python3.11" / "site-packages", "under")
    install(tmp_path / "env" / "lib" / "python3.11" / "site-packages", "over")
    configuration = (
        f"home = {tmp_path / 'base' / 'bin'}\ninclude-system-site-packages = true\nversion = 3.11.7\n"
    )
    (tmp_path / "env" / "pyvenv.cfg").write_text(configuration)
    assert [package.name for package in scanned(tmp_path / "env").packages] == ["over", "under"]
    (tmp_path / "env" / "pyvenv.cfg").write_text(configuration.replace(str(tmp_path), "/nowhere"))
    result = scanned(tmp_path / "env")
    assert [package.name for package in result.packages] == ["over"]
    assert [item.code for item in result.findings] == ["base-missing"]


def test_debian_packages_are_read_from_several_folders(tmp_path: Path) -> None:
    install(tmp_path / "local" / "lib" / "python3.11" / "dist-packages", "mine")
    install(tmp_path / "lib" / "python3" / "dist-packages", "debians")
    assert [package.name for package in scanned(tmp_path).packages] == ["debians", "mine"]


def test_lib64_link_is_read_once(tmp_path: Path) -> None:
    install(tmp_path / "lib" / "python3.11" / "site-packages", "a")
    (tmp_path / "lib64").symlink_to("lib")
    result = scanned(tmp_path)
    assert [package.name for package in result.packages] == ["a"]
    assert not result.findings


def test_free_threaded_python_has_its_abi_tag(tmp_path: Path) -> None:
    install(tmp_path / "lib" / "python3.13t" / "site-packages", "a")
    assert scanned(tmp_path).python.abi == "cp313t"


@pytest.mark.parametrize("folder", [".", "gone"])
def test_folder_without_site_packages_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ScanError) as caught:
        scanned(tmp_path / folder)
    assert caught.value.hint


def _pe(machine: int) -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", machine)


@pytest.mark.parametrize(
    ("head", "platform"),
    [
        (b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 183), "linux-aarch64"),
        (b"\x7fELF\x02\x02" + bytes(12) + struct.pack(">H", 22), "linux-s390x"),
        (_pe(0x8664), "win-amd64"),
        (_pe(0xAA64), "win-arm64"),
        (struct.pack("<II", 0xFEEDFACF, 0x0100000C), "macosx-arm64"),
        (struct.pack(">II", 0xCAFEBABE, 2), "macosx-universal2"),
        (b"#!/bin/sh\nexec python\n", ""),
        (b"", ""),
        (b"MZ", ""),
    ],
)
def test_platform_is_read_from_the_head_of_an_executable(head: bytes, platform: str) -> None:
    assert platform_of_executable(head) == platform


HOSTILE_VERSIONS = [
    "3.11/evil",
    "3.11.7/../x",
    "../3.11",
    "3.11.7 x",
    "3.11.$x",
    "3.11.7.",
    "-3.11",
    "3.11.7\x1b[31m",
]


@pytest.mark.parametrize("version", HOSTILE_VERSIONS)
@pytest.mark.parametrize("by", ["patchlevel.h", "pyvenv.cfg", "conda-meta"])
def test_hostile_python_version_is_not_used(tmp_path: Path, version: str, by: str) -> None:
    install(tmp_path / "lib/python3.11/site-packages", "a")
    if by == "patchlevel.h":
        (tmp_path / "include/python3.11").mkdir(parents=True)
        (tmp_path / "include/python3.11/patchlevel.h").write_text(f'#define PY_VERSION "{version}"\n')
    elif by == "pyvenv.cfg":
        (tmp_path / "pyvenv.cfg").write_text(f"version_info = {version}\nimplementation = ../x\n")
    else:
        (tmp_path / "conda-meta").mkdir()
        (tmp_path / f"conda-meta/python-{version.replace('/', '_')}-0.json").write_text("{}")
    python = scanned(tmp_path).python
    assert (python.implementation, python.version, python.abi) == ("cpython", "3.11", "cp311")


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("3.13.0rc1", "3.13.0rc1"),
        ("3.13.0.candidate.1", "3.13.0"),
        ("3.14.0a1+", "3.14.0a1"),
        ("3.11", "3.11"),
    ],
)
def test_python_version_of_a_prerelease_is_read(tmp_path: Path, written: str, version: str) -> None:
    install(tmp_path / "lib/python3.11/site-packages", "a")
    (tmp_path / "pyvenv.cfg").write_text(f"version_info = {written}\n")
    assert scanned(tmp_path).python.version == version


@pytest.mark.parametrize(
    "tag",
    [
        "py3/../../x-none-any",
        "py3-none-any/..",
        "py3",
        "py3-none",
        "a-b-c-d",
        "--",
        "pÿ3-none-any",
        "-".join([".".join("a" * 400)] * 3),
    ],
)
def test_hostile_wheel_tag_is_a_finding(tmp_path: Path, tag: str) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    install(site, "a", tag=tag)
    install(site, "b")
    result = scanned(tmp_path)
    assert {package.name: package.tags for package in result.packages} == {"a": (), "b": ("py3-none-any",)}
    (finding,) = [finding for finding in result.findings if finding.code == "invalid-wheel-tag"]
    assert finding.path == str(site / "a-1.0.dist-info/WHEEL")
    assert portable_digest(result.packages[0], python=result.python, target=TARGET) == ""
    assert bases_with("3.11/evil") == ()
