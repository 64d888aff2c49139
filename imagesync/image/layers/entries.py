"""Entries of a layer, and their form in a tar archive: ustar headers, and PAX headers only where needed."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

MTIME: Final = 315_532_800
"""1980-01-01 in seconds since the epoch: the earliest time that ZIP, and so a wheel, can hold."""
END: Final = bytes(2 * tarfile.BLOCKSIZE)
"""The end of a tar archive: two empty blocks."""
Kind = Literal["file", "directory", "symlink"]
_TYPES: Final = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}
# Of the ustar header (POSIX.1-1988).
_MOST_NAME, _MOST_PREFIX, _MOST_SIZE, _MOST_ID = 100, 155, 8**11, 8**7
_PADDING: Final = b"\0" * tarfile.BLOCKSIZE


@dataclass(frozen=True)
class FolderAttributes:
    """Mode and owner of a folder; the usual ones by default."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Entry:
    """A file, directory or symbolic link of a layer.

    Parameters
    ----------
    path
        Relative to the root of the image, without a slash at either end.
    kind
        What it is.
    mode
        The permissions.
    size
        Of the content, in bytes.
    target
        Of a symbolic link.
    read
        Returns the content of a file in pieces.
    uid, gid
        The owner; root by default.
    """

    path: str
    kind: Kind = "file"
    mode: int = 0o644
    size: int = 0
    target: str = ""
    read: Callable[[], Iterable[bytes]] = tuple
    uid: int = 0
    gid: int = 0


def file_entry(path: str, content: bytes, *, mode: int = 0o644) -> Entry:
    """Return the entry of a file with the given content."""
    return Entry(path, mode=mode, size=len(content), read=lambda: (content,))


def directory_entry(path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    """Return the entry of a directory."""
    return Entry(path, "directory", mode, uid=uid, gid=gid)


def symlink_entry(path: str, target: str) -> Entry:
    """Return the entry of a symbolic link."""
    return Entry(path, "symlink", 0o777, target=target)


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """Return *entries* sorted by path, with the directories above them.

    >>> [entry.path for entry in with_parents([file_entry("opt/env/x", b"")])]
    ['opt', 'opt/env', 'opt/env/x']
    """
    found = {entry.path: entry for entry in entries}
    for path in tuple(found):
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found[parent] = directory_entry(parent)
            parent = parent.rpartition("/")[0]
    return [found[path] for path in sorted(found)]


def tar_stream(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the entries as parts of a tar archive; the archive's end isn't among them.

    Raises
    ------
    ValueError
        A file's content isn't as long as its entry says.
    """
    for entry in entries:
        yield tar_header(entry)
        if entry.kind != "file":
            continue
        written = 0
        for piece in entry.read():
            written += len(piece)
            yield piece
        if written != entry.size:
            raise ValueError(f"{entry.path} has {written} bytes instead of {entry.size}")
        if rest := -written % tarfile.BLOCKSIZE:
            yield _PADDING[:rest]


def tar_header(entry: Entry) -> bytes:
    """Return the header of an entry.

    tarfile writes the same, but takes 40 us a header: there are tens of thousands.
    """
    path = entry.path + "/" if entry.kind == "directory" else entry.path
    split = _split(path)
    if split is None or entry.size >= _MOST_SIZE or max(entry.uid, entry.gid) >= _MOST_ID:
        return _pax_header(entry)
    if not _fits(entry.target):
        return _pax_header(entry)
    prefix, name = split
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0%07o\0%07o\0" % (entry.mode, entry.uid, entry.gid),
        b"%011o\0%011o\0" % (entry.size, MTIME),
        b" " * 8,
        _TYPES[entry.kind],
        entry.target.encode().ljust(100, b"\0"),
        b"ustar\00000",
        bytes(64),
        b"0000000\0" * 2,
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _split(path: str) -> tuple[bytes, bytes] | None:
    """Return the prefix and the name of a ustar header, or ``None`` if the path doesn't fit into one.

    >>> _split("a/b"), _split("d" * 90 + "/" + "f" * 90)[1] == b"f" * 90, _split("x" * 101)
    ((b'', b'a/b'), True, None)
    """
    if not path.isascii():
        return None
    encoded = path.encode()
    if len(encoded) <= _MOST_NAME:
        return b"", encoded
    slash = encoded.find(b"/", len(encoded) - _MOST_NAME - 1, len(encoded) - 1)
    if not 0 < slash <= _MOST_PREFIX:
        return None
    return encoded[:slash], encoded[slash + 1 :]


def _fits(target: str) -> bool:
    return target.isascii() and len(target) <= _MOST_NAME


def _pax_header(entry: Entry) -> bytes:
    member = tarfile.TarInfo(entry.path)
    member.type, member.mode, member.size = _TYPES[entry.kind], entry.mode, entry.size
    member.mtime, member.linkname = MTIME, entry.target
    member.uid, member.gid = entry.uid, entry.gid
    return member.tobuf(tarfile.PAX_FORMAT)
