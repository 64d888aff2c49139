"""The interpreter of an image from python-build-standalone, as uv installs it, and from a local mirror."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import BaseImageError
from imagesync.image.layers.base_contents import BaseContents
from imagesync.image.layers.base_python import environment_entries
from imagesync.image.layers.standalone_python import StandalonePython, find_standalone, for_image
from imagesync.scan.environment import Interpreter

NAME = "cpython-3.12.1-linux-x86_64-gnu"
BUILD = "20240107"
# uv writes its folder here, too.
SYSCONFIG = (
    "# system configuration generated and used by the sysconfig module\n"
    'build_time_vars = {{\n    "prefix": "{}",\n}}\n'
)


def install(folder: Path) -> Path:
    """Write what a build has, as far as imagesync looks at it."""
    library = folder / "lib" / "python3.12"
    for path, text in {
        "bin/python3.12": "\x7fELF",
        "lib/python3.12/os.py": "",
        "lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py": SYSCONFIG.format(folder),
        "lib/python3.12/__pycache__/os.cpython-312.pyc": "",
        "lib/python3.12/site-packages/mine.py": "",
        "lib/python3.12/venv/__init__.py": "import shlex\nshlex.quote\n",
        "lib/python3.12/venv/scripts/common/activate": "__VENV_DIR__",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "bin/python3.12").chmod(0o755)
    (folder / "bin/python3").symlink_to("python3.12")
    assert library.is_dir()
    return folder


def interpreter(base_prefix: Path) -> Interpreter:
    return Interpreter(
        "cpython",
        "3.12.1",
        "linux-x86_64",
        "cp312",
        "/env/bin/python",
        "/env",
        str(base_prefix),
        "glibc 2.36",
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    folder = install(tmp_path / "python" / NAME)
    (folder / "BUILD").write_text(f"{BUILD}\n")
    (tmp_path / "python" / "cpython-3.12-linux-x86_64-gnu").symlink_to(folder)
    return folder


def test_build_is_found_by_its_installation_and_by_the_link_to_it(installed: Path) -> None:
    expected = StandalonePython(installed, "3.12.1", BUILD)
    assert find_standalone(interpreter(installed)) == expected
    assert find_standalone(interpreter(installed.parent / "cpython-3.12-linux-x86_64-gnu")) == expected
    assert find_standalone(replace(interpreter(installed), version="3.12.2")) is None
    (installed / "BUILD").unlink()
    assert find_standalone(interpreter(installed)) is None
    assert find_standalone(interpreter(Path("/usr"))) is None


def test_build_for_newer_processors_is_named(tmp_path: Path) -> None:
    folder = install(tmp_path / "cpython-3.12.1-linux-x86_64_v3-gnu")
    (folder / "BUILD").write_text(f"{BUILD}\n")
    found = find_standalone(interpreter(folder))
    assert found is not None
    assert found.origin == f"python-build-standalone 3.12.1+{BUILD} x86_64_v3"


def test_scripts_that_pip_installed_beside_the_interpreter_stay_here(installed: Path) -> None:
    packages = installed / "lib/python3.12/site-packages"
    (packages / "black-24.1.0.dist-info").mkdir()
    (packages / "black-24.1.0.dist-info/RECORD").write_text("../../../bin/black,,\nblack/__init__.py,,\n")
    (installed / "bin/black").write_text("#!/bin/sh\n")
    paths = StandalonePython(installed, "3.12.1", BUILD).paths()
    assert "opt/python/bin/python3.12" in paths
    assert "opt/python/bin/black" not in paths


def test_files_go_to_their_place_without_what_was_made_here(installed: Path) -> None:
    request = StandalonePython(installed, "3.12.1", BUILD).request([], None)
    entries = {entry.path: entry for entry in request.entries() if entry.kind != "directory"}
    library = "opt/python/lib/python3.12"
    assert sorted(entries) == [
        "opt/python/bin/python3",
        "opt/python/bin/python3.12",
        f"{library}/_sysconfigdata__linux_x86_64-linux-gnu.py",
        f"{library}/os.py",
        f"{library}/venv/__init__.py",
        f"{library}/venv/scripts/common/activate",
    ]
    assert entries["opt/python/bin/python3"].target == "python3.12"
    assert entries["opt/python/bin/python3.12"].mode == 0o755
    text = b"".join(entries[f"{library}/_sysconfigdata__linux_x86_64-linux-gnu.py"].read())
    assert text.decode() == SYSCONFIG.format("/opt/python")


def test_link_that_leads_out_of_the_installation_is_refused(installed: Path) -> None:
    (installed / "lib/outside").symlink_to("/etc/passwd")
    with pytest.raises(BaseImageError, match="leads out of it"):
        list(StandalonePython(installed, "3.12.1", BUILD).request([], None).entries())


def test_environment_is_made_of_it(installed: Path) -> None:
    contents = StandalonePython(installed, "3.12.1", BUILD).contents_of(BaseContents(glibc=(2, 36)))
    entries = {entry.path: entry for entry in environment_entries(contents)}
    assert entries["opt/env/bin/python3"].target == "/opt/python/bin/python3"
    assert b"home = /opt/python/bin\n" in b"".join(entries["opt/env/pyvenv.cfg"].read())
    assert b"".join(entries["opt/env/bin/activate"].read()) == b"/opt/env"


def test_counterpart_for_the_images_platform_comes_from_a_mirror(installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "mirror" / BUILD / f"{NAME}.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(install(tmp_path / "unpacked"), "python")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    release = "https://github.com/astral-sh/python-build-standalone/releases/download"
    listed = {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": 3,
        "minor": 12,
        "patch": 1,
        "prerelease": "",
        "url": f"{release}/{BUILD}/{path.name}",
        "sha256": digest,
        "variant": None,
        "build": BUILD,
    }
    (tmp_path / "downloads.json").write_text(json.dumps({NAME: listed}))
    environ = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "UV_PYTHON_INSTALL_MIRROR": (tmp_path / "mirror").as_uri(),
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(tmp_path / "downloads.json"),
    }
    mac = replace(interpreter(installed), platform="macosx-14.0-arm64", libc="")
    found = find_standalone(mac)
    assert found is not None
    there = for_image(found, mac, platform=LINUX_AMD64, cache=tmp_path / "cache", environ=environ)
    assert there.folder == tmp_path / "cache" / BUILD / NAME
    # A second time nothing is fetched.
    path.unlink()
    assert for_image(found, mac, platform=LINUX_AMD64, cache=tmp_path / "cache", environ=environ) == there
    newer = replace(found, build="20240108")
    with pytest.raises(BaseImageError, match=r"uv can't install python-build-standalone 3\.12\.1\+20240108"):
        for_image(
            newer,
            mac,
            platform=LINUX_AMD64,
            cache=tmp_path / "cache",
            environ=environ,
        )
    assert for_image(found, interpreter(installed), platform=LINUX_AMD64, cache=tmp_path, environ={}) is found
