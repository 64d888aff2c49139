"""The header block of METADATA, PKG-INFO and WHEEL files, read as bytes.

``email.parser`` reads them too, but importing it takes longer than reading all of an
environment's metadata, and it parses the description that nobody asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field

# What email.feedparser takes for the header block: it ends at an empty line, or at the first line
# that is neither a header nor the continuation of one.
_BLOCK = re.compile(rb"(?:(?:From |[!-9;-~]*:|[\t ])[^\r\n]*(?:\r\n|\r|\n|\Z))*")
_CHUNK = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Headers:
    """Some headers of a metadata file.

    Parameters
    ----------
    values
        Lower-case header name to its values, in the order of the file.
    utf8
        Whether the whole block is valid UTF-8; values that aren't were read as Latin-1.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    utf8: bool = True

    def first(self, name: str) -> str:
        """Return the first value of the header *name* (lower case), or the empty string."""
        return self.values.get(name, [""])[0]

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of the header *name* (lower case)."""
        return tuple(self.values.get(name, ()))


def read_headers(path: str, wanted: Collection[str]) -> Headers:
    """Return the *wanted* headers (lower case) of the file at *path*.

    Raises
    ------
    OSError
        The file can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(descriptor, _CHUNK)
        size = len(data)
        while size == _CHUNK and b"\n" not in data[_end(data) :]:  # cut off within a header
            more = os.read(descriptor, _CHUNK)
            size = len(more)
            data += more
    finally:
        os.close(descriptor)
    return parse_headers(data, wanted)


def parse_headers(data: bytes, wanted: Collection[str]) -> Headers:
    r"""Return the *wanted* headers (lower case) of a metadata file's content.

    >>> parse_headers(b"Name: demo\nRequires-Dist: a;\n  extra == 'x'\n\ntext", ["requires-dist"]).values
    {'requires-dist': ["a; extra == 'x'"]}
    """
    if data.startswith(_BYTE_ORDER_MARK):
        data = data[len(_BYTE_ORDER_MARK) :]
    block = data[: _end(data)]
    keys = {name.encode("ascii"): name for name in wanted}
    found: dict[str, list[list[bytes]]] = {}
    current: list[bytes] | None = None
    for line in block.splitlines():
        if line[0] in b" \t":
            if current is not None:
                current.append(line)
            continue
        name, _, value = line.partition(b":")
        key = keys.get(name.lower())
        current = None
        if key is not None:
            current = [value]
            found.setdefault(key, []).append(current)
    values = {key: [_decode(b"\n".join(lines)) for lines in entries] for key, entries in found.items()}
    return Headers(values=values, utf8=_is_utf8(block))


def _end(data: bytes) -> int:
    match = _BLOCK.match(data)
    return match.end() if match else 0


def _decode(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return " ".join(text.split())


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
