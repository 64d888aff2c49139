from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from imagesync.errors import RenderError, WheelError
from imagesync.image.layers.wheel_entries import WheelContent, record_row
from imagesync.store.store import Store, StoredFile
from tests.unit.image.layers.wheels import stored_wheel, write_wheel

ODD = {
    "odd/__init__.py": b"x = 1\n",
    "odd/run.sh": b"#!/bin/sh\n",
    "Odd_Na.me-1.0.data/scripts/odd-script": b"#!python -u\nprint(1)\n",
    "Odd_Na.me-1.0.data/scripts/binary": b"\x7fELF",
    "Odd_Na.me-1.0.data/data/share/odd/a.txt": b"a",
    "Odd_Na.me-1.0.data/data/etc/odd.conf": b"c",
    "Odd_Na.me-1.0.data/headers/odd.h": b"h",
    "Odd_Na.me-1.0.data/purelib/oddp/__init__.py": b"y = 1\n",
    "Odd_Na.me-1.0.data/platlib/oddq.py": b"z = 1\n",
    "Odd_Na.me-1.0.dist-info/licenses/L,I.txt": b"licence",
    "Odd_Na.me-1.0.dist-info/entry_points.txt": (
        b"[console_scripts]\nodd = odd:main\nodd2 = odd.a:b.c [x]\n[gui_scripts]\noddg = odd:main\n"
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def entries_of(wheel: StoredFile, minor: str = "3.11") -> dict[str, tuple[int, bytes]]:
    with WheelContent(wheel, minor=minor) as content:
        return {entry.path: (entry.mode, b"".join(entry.read())) for entry in content.entries()}


def installed_by_uv(wheel: Path, folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the files that uv writes into a new environment, at the paths that they have in an image."""
    uv = [find_uv_bin(), "--quiet", "--offline", "--no-config", "--cache-dir", str(folder.parent / "uv")]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True, env=environ)
    before = set(folder.rglob("*"))
    python = str(folder / "bin" / "python")
    install = [*uv, "pip", "install", "--python", python, "--no-index", "--no-deps", "--find-links"]
    name = "==".join(wheel.name.split("-")[:2])
    subprocess.run([*install, str(wheel.parent), name], check=True, env=environ)
    return {
        f"opt/env/{path.relative_to(folder)}": (
            path.stat().st_mode & 0o777,
            path.read_bytes().replace(str(folder).encode(), b"/opt/env"),
        )
        for path in folder.rglob("*")
        if path.is_file() and path not in before and path.name != ".lock"
    }


def test_entries_are_the_files_that_uv_installs(tmp_path: Path, store: Store) -> None:
    path = write_wheel(tmp_path / "wheels", "Odd_Na.me", ODD)
    minor = sysconfig.get_python_version()
    expected = installed_by_uv(path, tmp_path / "env")
    found = entries_of(stored_wheel(store, path), minor)

    info = f"opt/env/lib/python{minor}/site-packages/Odd_Na.me-1.0.dist-info"
    # uv writes times of the wheel into it.
    assert expected.pop(f"{info}/uv_cache.json")
    record, installed_record = found.pop(f"{info}/RECORD"), expected.pop(f"{info}/RECORD")
    assert found == expected
    # Scripts differ by the length of the prefix, and so do their rows.
    rows, installed_rows = (
        [line for line in text.decode().splitlines() if "uv_cache" not in line and "/bin/odd" not in line]
        for _, text in (record, installed_record)
    )
    assert rows == installed_rows


def test_record_names_the_scripts_as_they_are_written(tmp_path: Path, store: Store) -> None:
    found = entries_of(stored_wheel(store, write_wheel(tmp_path / "wheels", "Odd_Na.me", ODD)))
    record = found["opt/env/lib/python3.11/site-packages/Odd_Na.me-1.0.dist-info/RECORD"][1].decode()
    script = found["opt/env/bin/odd"][1]
    assert script.startswith(b"#!/opt/env/bin/python\n")
    assert f"../../../bin/odd,{','.join(record_row(script))}\n" in record


def test_file_that_differs_from_record_is_refused(tmp_path: Path, store: Store) -> None:
    record = (
        "demo/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\ndemo-1.0.dist-info/RECORD,,\n"
    )
    path = write_wheel(tmp_path / "wheels", "demo", {"demo/__init__.py": b"x = 1\n"}, record=record)
    with pytest.raises(WheelError, match=r"demo/__init__.py in demo-1.0-py3-none-any.whl isn't the file"):
        entries_of(stored_wheel(store, path))


@pytest.mark.parametrize(
    "member", ["demo/.wh.module.py", "../../../../etc/passwd", "/etc/passwd", "demo/../../../../x"]
)
def test_members_that_a_layer_cannot_hold_are_refused(tmp_path: Path, store: Store, member: str) -> None:
    wheel = stored_wheel(store, write_wheel(tmp_path / "wheels", "demo", {member: b""}))
    with pytest.raises(RenderError, match=r"demo-1.0-py3-none-any.whl has a file"):
        WheelContent(wheel, minor="3.11")


def test_truncated_wheel_is_refused(tmp_path: Path, store: Store) -> None:
    path = write_wheel(tmp_path / "wheels", "demo", {"demo/__init__.py": b"x = 1\n" * 1000})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WheelError, match=r"demo-1.0-py3-none-any.whl can't be put in an image"):
        WheelContent(stored_wheel(store, path), minor="3.11")


def damage_entry_points(wheel: Path) -> None:
    content = wheel.read_bytes()
    assert content.count(b"odd = odd:main") == 1
    wheel.write_bytes(content.replace(b"odd = odd:main", b"odd = odd:mean"))


@pytest.mark.parametrize("entry_points", [b"[console_scripts]\nodd = odd:main\n", b"\xff\xfe"])
def test_entry_points_that_cannot_be_read_are_refused(
    tmp_path: Path, store: Store, entry_points: bytes
) -> None:
    wheel = write_wheel(
        tmp_path,
        "demo",
        {"demo-1.0.dist-info/entry_points.txt": entry_points},
        compression=zipfile.ZIP_STORED,
    )
    if entry_points.startswith(b"["):
        damage_entry_points(wheel)
    with pytest.raises(WheelError, match=r"demo-1.0-py3-none-any.whl can't be put in an image"):
        entries_of(stored_wheel(store, wheel))


def test_record_that_is_no_table_is_refused(tmp_path: Path, store: Store) -> None:
    record = '"' + "x" * 200_000 + '",,\n'
    wheel = stored_wheel(store, write_wheel(tmp_path, "demo", {}, record=record))
    with pytest.raises(WheelError, match=r"can't be put in an image: field larger than"):
        entries_of(wheel)


def test_too_many_open_files_are_no_damage_of_the_wheel(tmp_path: Path, store: Store) -> None:
    wheel = stored_wheel(store, write_wheel(tmp_path, "demo", {}))
    code = f"""
import os, resource
from pathlib import Path
from imagesync.errors import StoreError
from imagesync.image.layers.wheel_entries import WheelContent
from imagesync.store.store import StoredFile
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    WheelContent(StoredFile({wheel.filename!r}, Path({str(wheel.path)!r}), {wheel.digest!r}, 1), minor="3.11")
except StoreError as error:
    print(error.message)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Too many open files" in run.stdout
