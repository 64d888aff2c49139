"""The log of a build: bounded, without credentials, and with its last lines."""

from __future__ import annotations

import io
from pathlib import Path

from imagesync.core.build_log import LONGEST, BuildLog, open_log


def test_long_log_keeps_its_beginning_and_its_last_lines() -> None:
    stream = io.StringIO()
    log = BuildLog(stream, most=100)
    for number in range(1000):
        log.feed(b"line %d\n" % number)
    log.feed(b"no module: ModuleNotFoundError: No module named 'numpy.core'")
    log.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "line 0"
    assert any("lines are left out" in line for line in lines)
    assert lines[-2:] == ["line 999", "no module: ModuleNotFoundError: No module named 'numpy.core'"]
    assert len(lines) < 50
    assert log.missing_module == "numpy"


def test_line_without_an_end_is_cut_outside_of_urls() -> None:
    stream = io.StringIO()
    log = BuildLog(stream)
    text = '"https://user:pass-canary@host/" ' * 2000
    for start in range(0, len(text), 1000):
        log.feed(text[start : start + 1000].encode())
    log.end_line()
    assert "canary" not in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= LONGEST + 1000


def test_character_in_two_pieces_is_one() -> None:
    stream = io.StringIO()
    log = BuildLog(stream)
    for byte in "é\n".encode():
        log.feed(bytes([byte]))
    assert stream.getvalue() == "é\n"


def test_folder_in_place_of_a_log_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.log"
    path.mkdir(parents=True)
    with open_log(path) as log:
        log.line("text")
    assert path.read_text() == "text\n"
