"""Parts of loose code, of the user's files, and of files that are generated for one image."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.errors import RenderError
from imagesync.image.layers.entries import Entry, file_entry, symlink_entry, tar_stream, with_parents
from imagesync.image.layers.parts import PartRequest
from imagesync.image.layers.paths import check_paths
from imagesync.image_layout import CODE, site_packages

if TYPE_CHECKING:
    from imagesync.image_layout import CopiedFiles
    from imagesync.loose_code.archive import CodeLayer

_PIECE: Final = 1 << 20


def code_request(code: CodeLayer, *, minor: str) -> PartRequest:
    """Return the request for the part of loose code, which a .pth file puts last on ``sys.path``."""
    digests = tuple(file.digest for file in code.files)
    return PartRequest("loose code", ("code", *digests, str(CODE), minor), lambda: _code(code, minor))


def _code(code: CodeLayer, minor: str) -> list[Entry]:
    folder = str(CODE).lstrip("/")
    entries = []
    for archive in code.files:
        with zipfile.ZipFile(archive.path) as content:
            for info in content.infolist():
                mode, path, data = info.external_attr >> 16, f"{folder}/{info.filename}", content.read(info)
                if stat.S_ISLNK(mode):
                    entries.append(symlink_entry(path, data.decode()))
                else:
                    entries.append(file_entry(path, data, mode=0o755 if mode & stat.S_IXUSR else 0o644))
    check_paths((entry.path for entry in entries), "loose code")
    pth = f"{site_packages(minor)}/imagesync-code.pth".lstrip("/")
    return with_parents([*entries, file_entry(pth, f"{CODE}\n".encode())])


def files_request(copied: Sequence[CopiedFiles]) -> PartRequest:
    """Return the request for the part of the setting ``files``."""
    key = ("files", *(text for each in copied for text in (each.target, each.digest)))
    return PartRequest("files", key, lambda: _files(copied))


def _files(copied: Sequence[CopiedFiles]) -> list[Entry]:
    return with_parents(
        Entry(
            file.path.lstrip("/"),
            mode=0o755 if file.executable else 0o644,
            size=file.size,
            read=_Reader(Path(file.source)),
        )
        for each in copied
        for file in each.files
    )


class _Reader:
    """Reads a file of the user's when it's written to a layer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> Iterable[bytes]:
        try:
            with self._path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except OSError as error:
            raise RenderError(
                f"The file {self._path} can't be read: {error.strerror}.", hint="Run the command again."
            ) from error


def small_request(name: str, entries: Sequence[Entry]) -> PartRequest:
    """Return the request for a part whose key is its own content."""
    found = hashlib.sha256()
    for piece in tar_stream(entries):
        found.update(piece)
    return PartRequest(name, ("content", name, found.hexdigest()), lambda: entries)
