"""Text for people: sizes, durations, and untrusted strings made safe to print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TextIO

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# C0 and C1 controls, and the bidirectional overrides that can disguise a name as another one.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_TRACEBACK = "Traceback (most recent call last):"
_LOG_LINES = 10

# A number counts the next word.
_WORD = re.compile(r"(?:(?<!\S)\d+ )?\S+")


def clean(text: str) -> str:
    r"""Return *text* as one printable line: colours dropped, control characters written as escapes.

    >>> clean("\x1b[31mred\x1b[0m")
    'red'
    >>> clean("bad\rname")
    'bad\\rname'
    >>> clean("two\nlines\tand a tab")
    'two lines and a tab'
    """
    words = _ANSI.sub("", text).replace("\t", " ").replace("\r\n", "\n").replace("\n", " ")
    return _CONTROL.sub(_escape, words)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "backslashreplace").decode("ascii")


def clean_lines(text: str) -> list[str]:
    r"""Return the lines of *text*, each safe to show; indentation stays.

    >>> clean_lines("first\n  second\x1b[0m\n")
    ['first', '  second']
    """
    return [clean(line) for line in text.removesuffix("\n").split("\n")]


def log_end(log: str) -> str:
    r"""Return the last lines of *log*, each behind a line break; of a traceback only the exception.

    >>> log_end("starting\nTraceback (most recent call last):\n  File ...\n    run()\nOSError: no\n")
    '\n  starting\n  OSError: no'
    """
    lines: list[str] = []
    in_traceback = False
    for line in log.rstrip().splitlines():
        in_traceback = line.startswith(_TRACEBACK) or (in_traceback and line.startswith(" "))
        if not in_traceback:
            lines.append(f"\n  {line}")
    return "".join(lines[-_LOG_LINES:])


def encodable(text: str, stream: TextIO) -> str:
    """Return *text* with escapes for characters that the encoding of *stream* lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return *rows*, of the same number of cells, as indented lines with aligned columns.

    >>> aligned([("package", "here"), ("toolz", "1.1.0")])
    ['  package  here', '  toolz    1.1.0']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, map(clean, row), widths)).rstrip() for row in rows]


def cell_width(text: str) -> int:
    """Return the number of terminal cells that *text* takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of *text*, broken between words; a longer word gets a line of its own.

    A number stays with what it counts.

    >>> wrapped("this version preferred, a compatible one allowed", 24)
    ['this version preferred,', 'a compatible one allowed']
    >>> wrapped("28 packages, 0 findings", 14)
    ['28 packages,', '0 findings']
    """
    if cell_width(text) <= width:
        return [text]
    indent = text[: len(text) - len(text.lstrip())]
    lines: list[str] = []
    for word in _WORD.findall(text):
        if lines and cell_width(lines[-1]) + 1 + cell_width(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return lines or [""]


def format_size(size: int) -> str:
    """Return *size*, in bytes, in decimal units as pip and Docker write them.

    >>> format_size(130_400_000), format_size(12_300), format_size(2_310_000_000), format_size(0)
    ('130.4 MB', '12 kB', '2.31 GB', '0 kB')
    """
    if size < 100_000:
        return f"{size / 1000:.0f} kB"
    if size < 999_950_000:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e9:.2f} GB"


def format_duration(seconds: float) -> str:
    """Return *seconds* as a short duration.

    >>> format_duration(0.04), format_duration(12.34), format_duration(83.2), format_duration(3725)
    ('0.04 s', '12.3 s', '1 min 23 s', '1 h 02 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_elapsed(seconds: float) -> str:
    """Return the duration of what isn't over yet, in whole seconds.

    >>> format_elapsed(0.4), format_elapsed(12.34), format_elapsed(83.2)
    ('0 s', '12 s', '1 min 23 s')
    """
    return f"{int(seconds)} s" if seconds < 60 else format_duration(int(seconds))


def counted(number: int, noun: str) -> str:
    """Return *number* and *noun*, in the plural if needed.

    >>> counted(1, "package"), counted(0, "package"), counted(3, "entry")
    ('1 package', '0 packages', '3 entries')
    """
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {plural}"


def first_of(names: Sequence[str], most: int) -> str:
    """Return the first of *names*, and the number of the others.

    >>> first_of(["a", "b"], 3), first_of(["a", "b", "c"], 2)
    ('a, b', 'a, b and 1 more')
    """
    others = len(names) - most
    return ", ".join(names[:most]) + (f" and {others} more" if others > 0 else "")


def format_total(amount: int, unit: str) -> str:
    """Return *amount* with its unit.

    >>> format_total(12_300_000, "bytes"), format_total(1, "packages"), format_total(4, "steps")
    ('12.3 MB', '1 package', '4 steps')
    """
    return format_size(amount) if unit == "bytes" else counted(amount, unit.removesuffix("s"))


def format_done(done: int, total: int | None, unit: str) -> str:
    """Return the amount done, out of *total* if that is known; empty if nothing is known.

    >>> format_done(12_300_000, 130_000_000, "bytes"), format_done(3, 12, "packages")
    ('12.3/130.0 MB', '3/12 packages')
    """
    if not total:
        return format_total(done, unit) if done else ""
    if unit == "bytes":
        return f"{done / 1e6:.1f}/{total / 1e6:.1f} MB"
    return f"{done}/{format_total(total, unit)}"
