from __future__ import annotations

import hashlib
import resource
from pathlib import Path

import pytest

from imagesync.errors import RenderError
from imagesync.image.layers.wheel_parts import WheelPart, without_shared_files
from imagesync.store.store import Store
from tests.unit.image.layers.wheels import stored_wheel, write_wheel

PACKAGES = "opt/env/lib/python3.11/site-packages"


def parts(tmp_path: Path, **wheels: dict[str, bytes]) -> list[WheelPart]:
    store = Store(tmp_path / "cache")
    return [
        WheelPart(stored_wheel(store, write_wheel(tmp_path, name, files)), None, "pip", "3.11")
        for name, files in wheels.items()
    ]


def content(part: WheelPart) -> dict[str, bytes]:
    return {entry.path: b"".join(entry.read()) for entry in part.request.entries() if entry.kind == "file"}


def test_path_of_several_wheels_is_in_the_part_with_the_installed_bytes(tmp_path: Path) -> None:
    alder, birch = parts(
        tmp_path, alder={"shared/__init__.py": b"alder\n"}, birch={"shared/__init__.py": b"birch\n"}
    )
    installed = {"shared/__init__.py": hashlib.sha256(b"birch\n").hexdigest()}
    first, second = without_shared_files([alder, birch], installed, minor="3.11")
    path = f"{PACKAGES}/shared/__init__.py"
    assert path not in content(first)
    assert content(second)[path] == b"birch\n"
    assert second.request.key == birch.request.key
    assert first.request.key != alder.request.key


def test_path_with_the_same_bytes_or_of_unknown_origin_is_in_the_first_part(tmp_path: Path) -> None:
    script = b"[console_scripts]\nrun = shared:main\n"
    found = without_shared_files(
        parts(
            tmp_path,
            birch={"shared/__init__.py": b"", "birch-1.0.dist-info/entry_points.txt": script},
            alder={"shared/__init__.py": b"", "alder-1.0.dist-info/entry_points.txt": script},
        ),
        {},
        minor="3.11",
    )
    birch, alder = map(content, found)
    shared = {f"{PACKAGES}/shared/__init__.py", "opt/env/bin/run"}
    assert shared <= alder.keys()
    assert not shared & birch.keys()


def test_path_that_is_a_file_here_and_a_folder_there_is_refused(tmp_path: Path) -> None:
    found = parts(tmp_path, alder={"shared": b""}, birch={"shared/module.py": b""})
    with pytest.raises(RenderError, match=r"shared is a file in alder-1.0.*, and a folder in birch-1.0"):
        without_shared_files(found, {}, minor="3.11")


def test_folder_of_a_wheel_that_is_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    found = parts(tmp_path, alder={"alder-1.0.data/data/settings/a": b""})
    with pytest.raises(
        RenderError, match=r"opt/env/settings is a file in the setting files, and a folder in"
    ):
        without_shared_files(found, {}, minor="3.11", others={"the setting files": ["opt/env/settings"]})


def test_many_wheels_are_open_one_at_a_time(tmp_path: Path) -> None:
    found = parts(tmp_path, **{f"p{number}": {"shared.py": b"%d" % number} for number in range(60)})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, limits[1]))
    try:
        separate = without_shared_files(found, {}, minor="3.11")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sum(not part.excluded for part in separate) == 1
