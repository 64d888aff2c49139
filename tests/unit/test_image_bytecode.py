"""The scripts that give an image's modules their bytecode: never that of another module."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.lock.lock import Target
from imagesync.scan.scan import scan
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.bytecode import compile_bytecode
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import make_wheel

TOOLS = Path(__file__).parents[2] / "templates" / "image"
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
        target=Target("linux/amd64", python.version, (2, 36)),
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
def test_a_module_of_two_wheels_gets_the_bytecode_of_the_installed_one(
    tmp_path: Path, installed: bytes
) -> None:
    paths = wheels(tmp_path)
    environment = make_environment(
        tmp_path / "env", python=sys.executable, packages=[str(path) for path in paths]
    )
    # Which of the two wins is the installer's choice; either may.
    module = environment.site_packages / "shared" / "__init__.py"
    module.write_bytes(installed)
    environment.run("-I", TOOLS / "bytecode.py", archives(paths, environment, tmp_path))
    assert made_from(module) == importlib.util.source_hash(installed)
    code = "import shared, shared.first, shared.second; print(shared.OWNER)"
    owner = "first" if installed is FIRST else "second"
    assert environment.run("-c", code).strip() == owner
    # All others are those that were compiled before.
    part = environment.site_packages / "shared" / "first.py"
    assert made_from(part) == importlib.util.source_hash(part.read_bytes())


def test_bytecode_of_what_was_there_before_goes(tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "env", python=sys.executable)
    module = environment.site_packages / "mod.py"
    module.write_bytes(b"VALUE = 'old'\n")
    code = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); import bytecode; "
    environment.run("-c", f"{code}bytecode.compile_module({str(module)!r})")
    assert environment.run("-c", f"{code}print(bytecode.lacking([{str(module)!r}]))").strip() == "[]"
    module.write_bytes(b"VALUE = 'new'\n")
    assert environment.run("-c", "import mod; print(mod.VALUE)").strip() == "old"
    found = environment.run("-c", f"{code}print(bytecode.lacking([{str(module)!r}]))")
    assert str(module) in found
    assert environment.run("-c", "import mod; print(mod.VALUE)").strip() == "new"


def test_bytecode_that_comes_before_its_source_goes_where_none_comes(tmp_path: Path) -> None:
    archive = tmp_path / "bytecode.zip"
    members = ("here/__pycache__/mod.cpython-311.pyc", "gone/deep/__pycache__/mod.cpython-311.pyc")
    with zipfile.ZipFile(archive, "w") as content:
        for member in (
            *members,
            "here/__pycache__/mod.cpython-312.pyc",
            "../__pycache__/out.cpython-311.pyc",
        ):
            content.writestr(member, b"bytecode")
    library = tmp_path / "library"
    library.mkdir()
    code = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); import bytecode; from pathlib import Path; "
    unpack = f"unpack({str(archive)!r}, site_packages={str(library)!r}, magic=b'', suffix='.cpython-311.pyc'"
    source = f"Path({str(library)!r}, 'here', 'mod.py').write_text('')"
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}written = bytecode.{unpack}, ahead=True); {source}; "
            "bytecode.remove_orphans(written, '.cpython-311.pyc')",
        ],
        check=True,
    )
    left = [path.relative_to(library).as_posix() for path in library.rglob("*") if path.is_file()]
    assert sorted(left) == [members[0], "here/mod.py"]
    assert not (library / "gone").exists()
    assert not (tmp_path / "__pycache__").exists()
    # Nothing is made ahead unless somebody says that sources will come.
    subprocess.run([sys.executable, "-c", f"{code}print(bytecode.{unpack}))"], check=True)
    assert not (library / "gone").exists()
