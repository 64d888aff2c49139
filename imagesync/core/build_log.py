"""The log of a build: lines without credentials in a file of bounded size, and the last ones in memory.

A build back-end or a step of a Dockerfile may print without an end, and without a line's end.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from imagesync.core.credentials import redact
from imagesync.core.files import make_way

MOST: Final = 16 << 20
"""Characters of a log; of what comes after them only the last lines are kept."""
LONGEST: Final = 8192
"""Characters of a line; a longer one is cut into several."""
_LINES = 25
_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^'.]+)")
_NOT_IN_URLS = " \t\"'<>"


class BuildLog:
    """A log that is written as output arrives.

    Parameters
    ----------
    stream
        The log's file, empty and open.
    most
        Characters that are written to it, besides the last lines.
    """

    def __init__(self, stream: IO[str], *, most: int = MOST) -> None:
        self._stream = stream
        self._left = most
        self._omitted = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unfinished = ""
        self._last: deque[str] = deque(maxlen=_LINES)
        self._missing_module = ""

    @property
    def end(self) -> list[str]:
        """Return the last lines."""
        return [redact(line).rstrip()[:LONGEST] for line in self._last]

    @property
    def missing_module(self) -> str:
        """Return a module that isn't installed, by the last line that says so; empty if none does."""
        found = [match[1] for line in self._last if (match := _MISSING_MODULE.search(line))]
        return found[-1] if found else self._missing_module

    def feed(self, output: bytes) -> None:
        """Add a piece of output, which may end in the middle of a line."""
        lines, self._unfinished = split_lines(self._unfinished + self._decoder.decode(output))
        for line in lines:
            self.line(line)

    def end_line(self) -> None:
        """Add what has come of a line that nothing will continue."""
        unfinished, self._unfinished = self._unfinished + self._decoder.decode(b"", final=True), ""
        if unfinished:
            self.line(unfinished)

    def line(self, text: str) -> None:
        """Add a line."""
        self._last.append(text)
        if self._left <= 0:
            self._omitted += 1
            return
        clean = redact(text)
        self._left -= len(clean) + 1
        self._stream.write(f"{clean}\n")
        if (match := _MISSING_MODULE.search(clean)) is not None:
            self._missing_module = match[1]

    def finish(self) -> None:
        """Add the last lines, if the log was too long for them."""
        self.end_line()
        if self._omitted:
            last = self.end[-self._omitted :]
            if self._omitted > len(last):
                self._stream.write(f"[{self._omitted - len(last)} lines are left out here]\n")
            self._stream.writelines(f"{line}\n" for line in last)
            self._omitted = 0


@contextmanager
def open_log(path: Path) -> Iterator[BuildLog]:
    """Open a new log at *path*, whose folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_way(path)
    # By lines: who waits for a build may read them.
    with path.open("w", encoding="utf-8", errors="replace", buffering=1) as stream:
        log = BuildLog(stream)
        try:
            yield log
        finally:
            log.finish()


def split_lines(text: str) -> tuple[list[str], str]:
    r"""Return the lines of *text* without their ends, a very long one in pieces, and the rest behind them.

    >>> split_lines("a\nb")
    (['a'], 'b')
    """
    *lines, rest = text.split("\n")
    if len(rest) >= LONGEST:
        # Not in the middle of a URL, whose credentials wouldn't be recognised.
        cut = max(rest.rfind(character) for character in _NOT_IN_URLS) + 1 or len(rest)
        lines.append(rest[:cut])
        rest = rest[cut:]
    return lines, rest
