"""The dynamic section of real ELF files."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.plan.checks.elf import origin_folders, read_dynamic, read_dynamic_of
from tests.elf import compile_library


def test_dynamic_section_has_what_the_linker_was_told(tmp_path: Path) -> None:
    path = compile_library(
        tmp_path / "libone.so.1",
        needs=["libtwo.so.2", "libthree.so"],
        runpath="$ORIGIN/../lib:/opt/x",
        soname="libone.so.1",
    )
    section = read_dynamic(str(path))
    assert section is not None
    assert section.machine == LINUX_AMD64.elf_machine
    assert section.soname == "libone.so.1"
    assert section.needed[:2] == ("libtwo.so.2", "libthree.so")
    assert section.runpath == ("$ORIGIN/../lib", "/opt/x")
    assert section.rpath == ()
    assert origin_folders(section.runpath, str(path)) == (str(tmp_path.parent / "lib"), "/opt/x")


def test_rpath_of_the_old_kind_is_told_apart(tmp_path: Path) -> None:
    section = read_dynamic(str(compile_library(tmp_path / "old.so", rpath="$ORIGIN")))
    assert section is not None
    assert (section.rpath, section.runpath) == (("$ORIGIN",), ())


def test_file_that_is_no_library_or_is_cut_off_has_no_dynamic_section(tmp_path: Path) -> None:
    whole = compile_library(tmp_path / "whole.so", needs=["libx.so.1"]).read_bytes()
    text = tmp_path / "libx.so"
    text.write_text("GROUP ( /lib/libx.so.1 )\n")
    assert read_dynamic(str(text)) is None
    assert read_dynamic(str(tmp_path / "absent.so")) is None
    for size in (0, 4, 40, 64, 200, len(whole) // 2):
        part = tmp_path / "part.so"
        part.write_bytes(whole[:size])
        assert read_dynamic(str(part)) is None or size > 200


@pytest.mark.parametrize("offset", [1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_file_whose_segments_lie_outside_of_it_has_no_dynamic_section(offset: int, tmp_path: Path) -> None:
    path = compile_library(tmp_path / "libx.so", needs=["libx.so.1"])
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, 32, offset)
    path.write_bytes(content)
    assert read_dynamic(str(path)) is None
    assert read_dynamic_of(io.BytesIO(content)) is None
