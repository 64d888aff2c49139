"""What counts of a wheel: its files and metadata, and neither its archive nor who wrote it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.plan.plan import LeftOut, Plan, PlannedPackage
from imagesync.scan.environment import Interpreter, Source
from imagesync.wheels.wheel_contents import (
    WheelContent,
    archive_content,
    content_digest,
    first_sources,
    recall_contents,
    remember_content,
)

WHEEL = "Wheel-Version: 1.0\nGenerator: flit 3.12.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
METADATA = "Metadata-Version: 2.4\nName: elder\nVersion: 1.0\n"
FILES = {
    "elder.py": "berries = 1\n",
    "elder-1.0.dist-info/METADATA": METADATA,
    "elder-1.0.dist-info/WHEEL": WHEEL,
    "elder-1.0.dist-info/RECORD": "elder.py,sha256=x,12\n",
}
MINE = canonicalize_name("elder")
PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")


def planned(version: str, *, beside: str = "3.0") -> Plan:
    source = Source("directory", "file:///home/me/elder", editable=True)
    mine = PlannedPackage(MINE, version, Level.EXACT, "", "", source=source)
    return Plan(
        python=PYTHON,
        packages=(mine,),
        left_out=(LeftOut(canonicalize_name("cython"), beside, Level.IGNORE, ""),),
    )


def make_wheel(
    path: Path,
    files: Mapping[str, str] = FILES,
    *,
    year: int = 1980,
    mode: int = 0o644,
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0))
            member.external_attr = (0o100000 | mode) << 16
            member.compress_type = compression
            archive.writestr(member, content)
    return path


def test_archive_and_back_end_do_not_count(tmp_path: Path) -> None:
    digest = content_digest(make_wheel(tmp_path / "one.whl"))
    others = (
        make_wheel(tmp_path / "order.whl", dict(reversed(FILES.items()))),
        make_wheel(tmp_path / "time.whl", year=2026),
        make_wheel(tmp_path / "stored.whl", compression=zipfile.ZIP_STORED),
        make_wheel(tmp_path / "group.whl", mode=0o664),
        make_wheel(tmp_path / "folder.whl", {**FILES, "elder/": ""}),
        make_wheel(
            tmp_path / "writer.whl",
            {
                **FILES,
                "elder-1.0.dist-info/WHEEL": WHEEL.replace("flit 3.12.0", "other 1"),
                "elder-1.0.dist-info/RECORD": "",
            },
        ),
    )
    assert {content_digest(wheel) for wheel in others} == {digest}


@pytest.mark.parametrize(
    "changed",
    [
        {"elder.py": "berries = 2\n"},
        {"elder.PY": ""},
        {"elder-1.0.dist-info/METADATA": METADATA + "Summary: Berries\n"},
        {"elder-1.0.dist-info/WHEEL": WHEEL.replace("true", "false")},
        {"elder-1.0.data/data/RECORD": ""},
    ],
)
def test_files_and_metadata_count(tmp_path: Path, changed: dict[str, str]) -> None:
    one = make_wheel(tmp_path / "one.whl")
    assert content_digest(make_wheel(tmp_path / "two.whl", {**FILES, **changed})) != content_digest(one)


def test_executable_bit_counts(tmp_path: Path) -> None:
    one = make_wheel(tmp_path / "one.whl")
    assert content_digest(make_wheel(tmp_path / "two.whl", mode=0o755)) != content_digest(one)


def test_archive_is_read_once_and_only_if_it_has_its_digest(tmp_path: Path) -> None:
    wheel, cache = make_wheel(tmp_path / "one.whl"), tmp_path / "cache"
    digest = f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    assert archive_content(wheel, "sha256:" + "0" * 64, cache=cache) == ""
    assert archive_content(tmp_path / "missing.whl", digest, cache=cache) == ""
    assert archive_content(wheel, digest, cache=cache) == content_digest(wheel)
    content = content_digest(wheel)
    wheel.unlink()
    assert archive_content(wheel, digest, cache=cache) == content


def test_file_that_is_no_archive_has_no_content(tmp_path: Path) -> None:
    wheel = tmp_path / "one.whl"
    wheel.write_bytes(b"no archive")
    digest = f"sha256:{hashlib.sha256(b'no archive').hexdigest()}"
    assert archive_content(wheel, digest, cache=tmp_path) == ""


def test_content_is_remembered_by_sources_interpreter_and_isolation(tmp_path: Path) -> None:
    plan, content = Plan(python=PYTHON, packages=()), WheelContent("sha256:" + "1" * 64, "1.0")
    sources = {MINE: "sha256:" + "2" * 64}
    remember_content(plan, MINE, sources[MINE], content, no_isolation=(), cache=tmp_path)
    assert recall_contents(plan, sources, no_isolation=(), cache=tmp_path) == {MINE: content}
    # A newer patch level builds the same.
    later = replace(plan, python=replace(PYTHON, version="3.11.8"))
    assert recall_contents(later, sources, no_isolation=("other",), cache=tmp_path) == {MINE: content}
    for other in (
        recall_contents(plan, {MINE: "sha256:" + "3" * 64}, no_isolation=(), cache=tmp_path),
        recall_contents(plan, sources, no_isolation=("Eld*",), cache=tmp_path),
        recall_contents(
            replace(plan, python=replace(PYTHON, version="3.12.0")), sources, no_isolation=(), cache=tmp_path
        ),
    ):
        assert other == {}


def test_content_is_remembered_by_the_installed_version_that_the_build_was_told(tmp_path: Path) -> None:
    tagged, content = planned("1.0"), WheelContent("sha256:" + "1" * 64, "1.0")
    sources = {MINE: "sha256:" + "2" * 64}
    remember_content(tagged, MINE, sources[MINE], content, no_isolation=(), cache=tmp_path)
    assert recall_contents(planned("1.0"), sources, no_isolation=(), cache=tmp_path) == {MINE: content}
    assert recall_contents(planned("1.1"), sources, no_isolation=(), cache=tmp_path) == {}


@pytest.mark.parametrize("no_isolation", [("elder",), ("auto",)])
def test_content_of_a_build_without_isolation_is_remembered_by_what_is_installed(
    tmp_path: Path, no_isolation: tuple[str, ...]
) -> None:
    one, other = (planned("1.0", beside=version) for version in ("3.0", "3.1"))
    content, sources = WheelContent("sha256:" + "1" * 64, "1.0"), {MINE: "sha256:" + "2" * 64}
    for plan, isolation in ((one, no_isolation), (one, ())):
        remember_content(plan, MINE, sources[MINE], content, no_isolation=isolation, cache=tmp_path)
    assert recall_contents(one, sources, no_isolation=no_isolation, cache=tmp_path) == {MINE: content}
    assert recall_contents(other, sources, no_isolation=no_isolation, cache=tmp_path) == {}
    assert recall_contents(other, sources, no_isolation=(), cache=tmp_path) == {MINE: content}


@pytest.mark.parametrize("damaged", ["text", {}, [], ["sha256:1"], ["sha256:1", 1], ["a", "b", "c"]])
def test_damaged_entry_of_a_content_is_as_good_as_none(tmp_path: Path, damaged: object) -> None:
    plan, sources = planned("1.0"), {MINE: "sha256:" + "2" * 64}
    content = WheelContent("sha256:" + "1" * 64, "1.0")
    remember_content(plan, MINE, sources[MINE], content, no_isolation=(), cache=tmp_path)
    for path in tmp_path.rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "content": damaged}))
    assert recall_contents(plan, sources, no_isolation=(), cache=tmp_path) == {}
    assert first_sources(plan, sources, no_isolation=(), cache=tmp_path) == sources


def test_sources_of_the_same_wheel_are_the_first_ones(tmp_path: Path) -> None:
    plan, other = Plan(python=PYTHON, packages=()), WheelContent("sha256:" + "8" * 64, "1.0")
    content = WheelContent("sha256:" + "9" * 64, "1.0")
    one, two, three, unknown = ("sha256:" + digit * 64 for digit in "1234")
    for digest, what in ((one, content), (two, content), (three, other)):
        remember_content(plan, MINE, digest, what, no_isolation=(), cache=tmp_path)
    found = [
        first_sources(plan, {MINE: digest}, no_isolation=(), cache=tmp_path)[MINE]
        for digest in (one, two, three, unknown)
    ]
    assert found == [one, one, three, unknown]
