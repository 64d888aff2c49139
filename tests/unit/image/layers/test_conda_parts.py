"""Conda packages as parts of layers: what their files become, and archives that aren't what they say."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.errors import ImagesyncError
from imagesync.image.conda.layer import CondaPackages, conda_packages
from imagesync.image.layers.conda_parts import conda_parts, generated_entries
from imagesync.lock.conda.repodata import locked
from imagesync.lock.lock import Lock, Target
from imagesync.scan.environment import Interpreter
from imagesync.store.store import Store

PLACEHOLDER = "/home/build/_h_env_placehold_placehold"
TIME = 1_704_067_200
NOTHING = Interpreter("pypy", "3.11.7", "linux-x86_64", "", "", "", "")
Member = tuple[str, bytes | str]
"""A path with the content of a file, or the target of a link."""


def archive(
    members: Sequence[Member], paths: Sequence[dict[str, Any]] | None = None, **info: object
) -> bytes:
    """Return a package ``odd``, which lists its members, or *paths*."""
    if paths is None:
        paths = [listed(path, content) for path, content in members]
    index = {"name": "odd", "version": "1", "build": "0", "build_number": 0, "subdir": "linux-64"}
    documents = {"index.json": index, "paths.json": {"paths": paths, "paths_version": 1}}
    texts = [(f"info/{name}", json.dumps(document).encode()) for name, document in documents.items()]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as file:
        for path, content in [*texts, *members]:
            member = tarfile.TarInfo(path)
            member.mtime = TIME
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                file.addfile(member)
            else:
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def listed(path: str, content: bytes | str, **more: object) -> dict[str, Any]:
    kind = "softlink" if isinstance(content, str) else "hardlink"
    digest = {} if isinstance(content, str) else {"sha256": hashlib.sha256(content).hexdigest()}
    return {"_path": path, "path_type": kind, **digest, **more}


def packages(tmp_path: Path, *archives: bytes, minor: str = "3.11") -> tuple[CondaPackages, Store]:
    """Return packages ``odd``, ``odd1`` and so on, and the store that has them."""
    store, found, files = Store(tmp_path / "store"), [], []
    for number, content in enumerate(archives):
        name = f"odd{number or ''}"
        record = {
            "name": name,
            "version": "1",
            "build": "0",
            "build_number": 0,
            "subdir": "linux-64",
            "fn": f"{name}-1-0.tar.bz2",
            "channel": "https://example.com/c",
            "url": f"https://example.com/c/linux-64/{name}-1-0.tar.bz2",
            "sha256": hashlib.sha256(content).hexdigest(),
            "depends": [],
        }
        found.append(locked(record))
        files.append(store.add(iter([content]), filename=f"{name}-1-0.tar.bz2"))
    lock = Lock(Target(LINUX_AMD64, f"{minor}.7", (2, 36)), (), conda=tuple(found))
    chosen = conda_packages(
        lock,
        files,
        wheels=(),
        python=NOTHING,
        store=store,
        progress=SilentProgress(),
        all_bytecode=True,
    )
    return chosen, store


def tree(tmp_path: Path, *archives: bytes, minor: str = "3.11") -> dict[str, tuple[str, bytes | str]]:
    """Return kind and mode, and content or target, of what the packages become."""
    conda, store = packages(tmp_path, *archives, minor=minor)
    parts = conda_parts(conda, minor=minor, store=store)
    found = {}
    for part in parts:
        for entry in part.request.entries():
            content = entry.target if entry.kind == "symlink" else b"".join(entry.read())
            found[entry.path.removeprefix("opt/env/")] = (f"{entry.kind} {entry.mode:o}", content)
    for entry in generated_entries(conda, parts, activation="activate\n", shell="/bin/sh"):
        found[entry.path.removeprefix("opt/env/")] = (f"file {entry.mode:o}", b"".join(entry.read()))
    return found


def test_prefix_is_written_into_files_and_recorded(tmp_path: Path) -> None:
    text, binary = f"in {PLACEHOLDER}\n".encode(), b"\x7fELF" + PLACEHOLDER.encode() + b"/lib\0end\0"
    members: list[Member] = [("etc/text", text), ("lib/binary", binary), ("lib/link", "binary")]
    paths = [
        listed("etc/text", text, prefix_placeholder=PLACEHOLDER, file_mode="text"),
        listed("lib/binary", binary, prefix_placeholder=PLACEHOLDER, file_mode="binary"),
        listed("lib/link", "binary"),
    ]
    found = tree(tmp_path, archive(members, paths))
    assert found["etc/text"] == ("file 644", b"in /opt/env\n")
    _, content = found["lib/binary"]
    assert isinstance(content, bytes)
    assert len(content) == len(binary)
    assert content.startswith(b"\x7fELF/opt/env/lib\0")
    assert found["lib/link"] == ("symlink 777", "binary")
    record = json.loads(found["conda-meta/odd-1-0.json"][1])
    assert record["files"] == ["etc/text", "lib/binary", "lib/link"]
    entry = record["paths_data"]["paths"][0]
    assert entry["sha256"] == hashlib.sha256(text).hexdigest()
    assert entry["sha256_in_prefix"] == hashlib.sha256(b"in /opt/env\n").hexdigest()
    assert b"::odd-1-0\n" in found["conda-meta/history"][1]  # type: ignore[operator]


def test_part_is_read_from_the_store_without_its_archive(tmp_path: Path) -> None:
    conda, store = packages(tmp_path, archive([("share/a", b"a")]))
    (part,) = conda_parts(conda, minor="3.11", store=store)
    facts = part.facts()
    part.archive.path.unlink()
    assert part.facts() == facts
    assert facts.installed == {"share/a": (hashlib.sha256(b"a").hexdigest(), 1)}


def test_bytecode_by_time_is_kept_without_its_time_where_nothing_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = b"x = 1\n"
    header = b"\xa7\r\r\n" + bytes(4) + TIME.to_bytes(4, "little") + len(source).to_bytes(4, "little")
    folder = "lib/python3.7/site-packages"
    cached = f"{folder}/__pycache__/odd.cpython-37.pyc"
    monkeypatch.setenv("PATH", "")
    odd = archive([(f"{folder}/odd.py", source), (cached, header + b"code")])
    found = tree(tmp_path, odd, minor="3.7")
    assert found[cached][1] == b"\xa7\r\r\n" + b"\1\0\0\0" + bytes(8) + b"code"


@pytest.mark.parametrize(
    ("members", "paths", "said"),
    [
        ([("../evil", b"x")], None, "path: ../evil"),
        ([("/evil", b"x")], None, "path: /evil"),
        ([("a", b"x")], [listed("../a", b"x")], "leads out of the environment"),
        ([("a", b"x")], [listed("/a", b"x")], "leads out of the environment"),
        ([("a", b"x")], [listed("..\\..\\a", b"x")], "leads out of the environment"),
        ([("a", b"x")], [listed("\\a", b"x")], "leads out of the environment"),
        ([("a", b"x")], [listed("b", b"x")], "it lacks b, which it lists"),
        ([("a", b"x")], [listed("a", b"y")], "a isn't the file that it lists"),
        ([("a", b"x")], [listed("a", b"y", prefix_placeholder="x")], "a isn't the file that it lists"),
        ([("a", b"x")], [{"path_type": "hardlink"}], "an entry without a path"),
        ([("a", "../../../etc/passwd")], None, "a link that leads out of the environment: a -> "),
        ([("a", "/etc/passwd")], None, "a link that leads out of the environment: a -> /etc/passwd"),
        ([("a", "/etc")], [listed("a", "/etc"), listed("a/passwd", b"")], "a/passwd, which is below a link"),
        ([(".wh.a", b"x")], None, r"a file called .wh.a"),
    ],
)
def test_archive_that_is_not_what_it_says_is_refused_by_name(
    tmp_path: Path, members: list[Member], paths: list[dict[str, Any]] | None, said: str
) -> None:
    with pytest.raises(ImagesyncError) as error:
        tree(tmp_path, archive(members, paths))
    assert "odd-1-0.tar.bz2" in error.value.message
    assert said in error.value.message


def test_backslash_is_a_character_of_a_name(tmp_path: Path) -> None:
    unit = "lib/systemd/system/dev-disk\\x2duuid.device"
    assert tree(tmp_path, archive([(unit, b"[Unit]")]))[unit] == ("file 644", b"[Unit]")


def test_truncated_archive_is_refused_by_name(tmp_path: Path) -> None:
    content = archive([("a", bytes(range(256)) * 1000)])
    with pytest.raises(ImagesyncError, match=r"odd-1-0\.tar\.bz2 can't be read"):
        tree(tmp_path, content[: len(content) // 2])


def test_hard_link_to_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    buffer = io.BytesIO(archive([]))
    with tarfile.open(fileobj=buffer) as old:
        documents = {member.name: old.extractfile(member).read() for member in old}  # type: ignore[union-attr]
    documents["info/paths.json"] = json.dumps({"paths": [listed("a", b"")]}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as new:
        for name, text in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            new.addfile(member, io.BytesIO(text))
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.LNKTYPE, "/etc/passwd"
        new.addfile(link)
    with pytest.raises(ImagesyncError, match=r"odd-1-0\.tar\.bz2 can't be read"):
        tree(tmp_path, buffer.getvalue())


def test_file_in_one_package_and_folder_in_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagesyncError, match="lib/a is a file in odd, and a folder in odd1"):
        tree(tmp_path, archive([("lib/a", b"")]), archive([("lib/a/b", b"")]))
