from __future__ import annotations

import io
import re

import pytest

from imagesync.cli.tables import Row, Section, print_sections
from imagesync.cli.widths import column_widths, shortened, typical_width
from tests.terminals import on_terminal

HEADERS = ("package", "version", "source")
CUT = "Cut to {} columns; piped output is complete."


def printed(*rows: tuple[str, ...]) -> str:
    stream = io.StringIO()
    print_sections([Section("packages", HEADERS, tuple(Row(cells) for cells in rows))], stream)
    return stream.getvalue()


def shown(code: str, columns: int) -> list[str]:
    """Return the lines that *code* prints on a terminal, without colours."""
    prelude = "from imagesync.cli.tables import Row, Section, print_sections\n"
    exit_code, out = on_terminal(prelude + code, columns=columns)
    assert exit_code == 0, out
    return re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()


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


def test_narrow_columns_and_usual_cells_come_before_the_longest_cell() -> None:
    # 19 names of 10 cells and one of 60, beside a column of 9 cells.
    assert column_widths([[7, *[10] * 19, 60], [7, *[9] * 20]], 40) == [31, 9]
    # Two columns that are wide in every row share what is left.
    assert column_widths([[7, *[40] * 20], [7, *[9] * 20], [7, *[40] * 20]], 69) == [30, 9, 30]


def test_prose_is_cut_between_words_and_one_long_word_inside() -> None:
    assert shortened("it carries the connections between", 20) == "it carries the…"
    assert shortened("file:///home/me/projects/mine", 20) == "file:///home/me/pro…"
    assert shortened("日本語の名前", 7) == "日本語…"


@pytest.mark.parametrize("ellipsis", ["…", "..."])
@pytest.mark.parametrize("width", range(11))
def test_text_fits_any_width_that_is_left_for_it(width: int, ellipsis: str) -> None:
    cut = shortened("a name that is long", width, ellipsis)
    assert len(cut) <= width
    assert cut.endswith(ellipsis[:width])


def test_empty_cells_do_not_narrow_a_column() -> None:
    assert typical_width([0, *[0] * 30, 40]) == 40


MANY = """
reason = "a reason that takes more than eighty columns, all alone " * 2
rows = [Row((f"package-{n}", f"1.{n}.0", "pip", reason)) for n in range(20)]
rows.append(Row(("a-name-that-is-much-longer-than-any-other-name-in-the-table", "2.0.0", "pip", "[red]x[/]")))
headers = ("package", "version", "manager", "reason")
"""


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_terminal_gets_one_line_per_row(columns: int) -> None:
    lines = shown(f"{MANY}print_sections([Section('title', headers, tuple(rows), optional=(2,))])", columns)
    assert max(map(len, lines)) <= columns
    assert sum("package-" in line for line in lines) == 20
    assert sum("1.5.0" in line for line in lines) == 1
    assert any("[red]x[/]" in line for line in lines)
    # The constant column makes room for the others.
    assert "  manager: pip" in lines
    assert lines[-1] == CUT.format(columns)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_shared_reason_is_a_heading_that_is_never_cut_inside_a_word(columns: int) -> None:
    lines = shown(f"{MANY}print_sections([Section('title', headers, tuple(rows), shared=3)])", columns)
    words = " ".join(line.strip() for line in lines).split()
    assert words.count("eighty") == 2, "not once, in a heading"
    assert max(map(len, lines)) <= columns
    assert sum("package-" in line for line in lines) == 20


def test_pipe_gets_shared_and_optional_columns_in_every_row() -> None:
    stream = io.StringIO()
    rows = (Row(("a", "1", "why")), Row(("b", "1", "why")))
    print_sections([Section("", ("package", "version", "reason"), rows, shared=2, optional=(1,))], stream)
    assert (
        stream.getvalue() == "  package  version  reason\n  a        1        why\n  b        1        why\n"
    )


def test_narrow_terminal_drops_optional_columns_and_says_so() -> None:
    code = """
rows = tuple(Row((f"{n:030}", "y" * n, "z" * 30)) for n in range(20, 31))
print_sections([Section("", ("package", "channel", "build"), rows, optional=(1,))])
"""
    lines = shown(code, 60)
    assert "yyy" not in "".join(lines)
    assert lines[-1] == CUT.format(60)
    assert "yyy" in "".join(shown(code, 120))


PROSE = """
finding = Row(("warning", "code-of-it", "words that " * 12 + "end -> rm -r /a/" + "long" * 20), "bad")
print_sections([Section("1 finding", rows=(finding,), notes=("summaries " * 20,))])
"""
REASON = """
rows = (Row(("numpy", "1.0", "why it differs " * 9 + "END")),)
print_sections([Section("t", ("package", "here", "reason"), rows, wraps=True)])
"""


@pytest.mark.parametrize("columns", [12, 30, 60, 80, 120])
def test_prose_wraps_between_words_and_is_never_cut(columns: int) -> None:
    words = " ".join(shown(PROSE, columns)).split()
    assert words.count("that") == words.count("words") == 12
    assert words.count("summaries") == 20
    assert f"/a/{'long' * 20}" in words, "a path can't be copied"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_reasons_of_a_short_table_wrap(columns: int) -> None:
    words = " ".join(shown(REASON, columns)).split()
    assert words.count("differs") == 9
    assert "END" in words


def test_terminal_shows_colours_unless_no_color_or_a_dumb_terminal() -> None:
    code = f"from imagesync.cli.tables import Row, Section, print_sections\n{PROSE}"
    assert "\x1b[31m" in on_terminal(code, columns=100)[1]
    assert "\x1b[" not in on_terminal(code, columns=100, environ={"NO_COLOR": "1"})[1]
    assert "\x1b" not in on_terminal(code, columns=100, environ={"TERM": "dumb"})[1]
