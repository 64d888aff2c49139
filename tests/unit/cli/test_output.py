from __future__ import annotations

import io
import json
import re

import pytest

from imagesync.cli.output import Row, Section, print_json, print_sections
from tests.terminals import on_terminal

HEADERS = ("package", "version", "source")


def printed(*rows: tuple[str, ...]) -> str:
    stream = io.StringIO()
    print_sections([Section("packages", HEADERS, tuple(Row(cells) for cells in rows))], stream)
    return stream.getvalue()


def test_piped_table_cuts_nothing_and_aligns_wide_characters() -> None:
    long = "x" * 400
    text = printed(("numpy", "1", f"archive https://example.com/{long}"), ("日本", "1", "index"))
    assert long in text
    header, first, second = text.splitlines()[1:4]
    assert first.index("1 ") == header.index("version")
    # Each of the two characters takes two cells of a terminal, so the version comes two characters earlier.
    assert second.index("1 ") == header.index("version") - 2


def test_piped_table_escapes_control_characters_and_keeps_markup() -> None:
    text = printed(("[red]a\x1b[31m\u202eb", "1\r2\udcff", "index"))
    assert "[red]a\\u202eb  1\\r2\\udcff" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e\ud800-\udfff]", text)


def test_table_on_a_stream_that_cannot_encode_it_has_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_sections([Section("", rows=(Row(("ü", "1")),))], stream)
    assert b"\\xfc" in raw.getvalue()


def test_json_keeps_characters_beyond_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"prefix": "/home/müller"})
    out = capsys.readouterr().out
    assert "müller" in out
    assert json.loads(out) == {"prefix": "/home/müller"}


SHOW = """
from imagesync.cli.output import Row, Section, print_sections
long = "editable directory file:///home/me/" + "long/" * 20
rows = (Row(("[red]evil[/red]", "1.0", "pip", "-", long)), Row(("numpy", "1.26.4", "pip", "-", "index")))
headers = ("package", "version", "manager", "requested", "source")
finding = Row(("error", "c", "bad [bold]news"), "bad")
print_sections([Section("cpython 3.11.7", headers, rows), Section("1 finding", rows=(finding,))])
"""


@pytest.mark.parametrize("columns", [200, 100, 60, 30, 12])
def test_terminal_of_any_width_shows_every_cell(columns: int) -> None:
    code, out = on_terminal(SHOW, columns=columns)
    assert code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", out)
    together = re.sub(r"\s", "", text)
    assert "[red]evil[/red]" in together
    assert "bad[bold]news" in together
    assert together.count("long/") == 20
    rows = [line for line in text.splitlines() if "long/" in line]
    assert max(len(line.rstrip()) for line in rows) <= columns


def test_terminal_shows_colours_unless_no_color_or_a_dumb_terminal() -> None:
    assert "\x1b[31m" in on_terminal(SHOW, columns=100)[1]
    assert "\x1b[31m" not in on_terminal(SHOW, columns=100, environ={"NO_COLOR": "1"})[1]
    assert "\x1b" not in on_terminal(SHOW, columns=100, environ={"TERM": "dumb"})[1]
