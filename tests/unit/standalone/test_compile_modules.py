"""The program that writes the bytecode of an image's modules: never that of another module."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.lock.lock import Target
from imagesync.scan.scan import scan
from imagesync.standalone.image.compile_modules import (
    compile_module,
    extract_bytecode,
    remove_orphans,
    remove_stale_bytecode,
)
from imagesync.standalone.programs import program_text
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.bytecode import compile_bytecode
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import make_wheel

# As setuptools' own way of namespaces had it: each wheel brings the package's file.
FIRST = b"__import__('pkg_resources') if False else None\nOWNER = 'first'\n"
SECOND = b"OWNER = 'second'\n"


def wheels(folder: Path) -> list[Path]:
    paths = []
    for name, content in (("shared-first", FIRST), ("shared-second", SECOND)):
        part = name.rpartition("-")[2]
        files = {"shared/__init__.py": content, f"shared/{part}.py": b"HERE = True\n"}
        filename, data = make_wheel(name, "1.0", files=files)
        (folder / filename).write_bytes(data)
        paths.append(folder / filename)
    return paths


def archives(paths: list[Path], environment: LocalEnvironment, folder: Path) -> Path:
    store = Store(folder / "store")
    python = scan(python=environment.python, environ={}).python
    stored: list[StoredFile] = [store.add_file(path) for path in paths]
    compiled = compile_bytecode(
        stored,
        python=python,
        target=Target(LINUX_AMD64, python.version, (2, 36)),
        site_packages=PurePosixPath(environment.site_packages.as_posix()),
        store=store,
        progress=SilentProgress(),
    )
    target = folder / "bytecode"
    target.mkdir()
    for archive in compiled:
        (target / archive.filename).write_bytes(archive.path.read_bytes())
    return target


def made_from(module: Path) -> bytes:
    return Path(importlib.util.cache_from_source(str(module))).read_bytes()[8:16]


@pytest.mark.parametrize("installed", [FIRST, SECOND])
def test_module_of_two_wheels_gets_bytecode_of_the_installed_one(tmp_path: Path, installed: bytes) -> None:
    paths = wheels(tmp_path)
    environment = make_environment(
        tmp_path / "env", python=sys.executable, packages=[str(path) for path in paths]
    )
    # Which of the two wins is the installer's choice; either may.
    module = environment.site_packages / "shared" / "__init__.py"
    module.write_bytes(installed)
    environment.run("-I", "-c", program_text("image.compile_modules"), archives(paths, environment, tmp_path))
    assert made_from(module) == importlib.util.source_hash(installed)
    code = "import shared, shared.first, shared.second; print(shared.OWNER)"
    owner = "first" if installed is FIRST else "second"
    assert environment.run("-c", code).strip() == owner
    # All others are those that were compiled before.
    part = environment.site_packages / "shared" / "first.py"
    assert made_from(part) == importlib.util.source_hash(part.read_bytes())


def test_bytecode_of_another_source_is_removed(tmp_path: Path) -> None:
    module = tmp_path / "mod.py"
    module.write_bytes(b"VALUE = 'old'\n")
    compile_module(str(module))
    assert remove_stale_bytecode(str(module))
    module.write_bytes(b"VALUE = 'new'\n")
    show = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import mod; print(mod.VALUE)"]

    def value() -> str:
        return subprocess.run(
            [*show, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert value() == "old"
    assert not remove_stale_bytecode(str(module))
    assert value() == "new"


def test_bytecode_extracted_before_its_source_is_removed_without_one(tmp_path: Path) -> None:
    archive = tmp_path / "bytecode.zip"
    suffix = ".cpython-311.pyc"
    members = (f"here/__pycache__/mod{suffix}", f"gone/deep/__pycache__/mod{suffix}")
    excluded = ("here/__pycache__/mod.cpython-312.pyc", f"../__pycache__/out{suffix}")
    with zipfile.ZipFile(archive, "w") as content:
        for member in (*members, *excluded):
            content.writestr(member, b"bytecode")
    library = tmp_path / "library"
    library.mkdir()
    written = extract_bytecode(
        str(archive), site_packages=str(library), magic=b"", suffix=suffix, before_sources=True
    )
    (library / "here" / "mod.py").touch()
    remove_orphans(written, suffix)
    left = [path.relative_to(library).as_posix() for path in library.rglob("*") if path.is_file()]
    assert sorted(left) == [members[0], "here/mod.py"]
    assert not (library / "gone").exists()
    assert not (tmp_path / "__pycache__").exists()


def test_bytecode_without_a_folder_of_sources_is_not_extracted(tmp_path: Path) -> None:
    archive = tmp_path / "bytecode.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("gone/__pycache__/mod.cpython-311.pyc", b"bytecode")
    library = tmp_path / "library"
    library.mkdir()
    assert not extract_bytecode(
        str(archive), site_packages=str(library), magic=b"", suffix=".cpython-311.pyc"
    )
    assert not list(library.iterdir())
