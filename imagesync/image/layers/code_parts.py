"""Parts of loose code, of the user's files, and of files that are generated for one image."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.engine.build_context import ContextFile, file_content
from imagesync.image.layers.entries import Entry, file_entry, symlink_entry, tar_stream, with_parents
from imagesync.image.layers.parts import PartRequest
from imagesync.image.layers.paths import check_paths
from imagesync.image_layout import CODE, site_packages

if TYPE_CHECKING:
    from imagesync.image.layers.folder_tree import FolderTree
    from imagesync.image_layout import CopiedFile, CopiedFiles
    from imagesync.loose_code.code_layer import CodeLayer


def code_request(code: CodeLayer, *, minor: str) -> PartRequest:
    """Return the request for the part of loose code, which a .pth file puts last on ``sys.path``."""
    digests = tuple(file.digest for file in code.files)
    return PartRequest("loose code", ("code", *digests, str(CODE), minor), lambda: _code(code, minor))


def code_paths(code: CodeLayer) -> list[str]:
    """Return the paths of the files of loose code."""
    found = []
    for archive in code.files:
        with zipfile.ZipFile(archive.path) as content:
            found += [f"{CODE}/{name}".lstrip("/") for name in content.namelist()]
    return found


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


def files_request(copied: Sequence[CopiedFiles], tree: FolderTree) -> PartRequest:
    """Return the request for the part of the setting ``files``, on a base with *tree*.

    Raises
    ------
    RenderError
        A layer can't hold one of the files, or the base has a folder in its place.
    """
    check_paths((file.path.lstrip("/") for each in copied for file in each.files), "The setting files")
    entries = with_parents(
        tree.placed(
            Entry(
                file.path.lstrip("/"),
                mode=0o755 if file.executable else 0o644,
                size=file.size,
                read=partial(_read, file),
            )
            for each in copied
            for file in each.files
        )
    )
    digests = (text for each in copied for text in (each.target, each.digest))
    return PartRequest("files", ("files", *digests, *(entry.path for entry in entries)), lambda: entries)


def _read(file: CopiedFile) -> Iterator[bytes]:
    """Yield the bytes of a file of the user's when it's written to a layer."""
    return file_content(ContextFile(file.path, Path(file.source), file.size, sha256=file.sha256))


def small_request(name: str, entries: Sequence[Entry]) -> PartRequest:
    """Return the request for a part whose key is its own content."""
    found = hashlib.sha256()
    for piece in tar_stream(entries):
        found.update(piece)
    return PartRequest(name, ("content", name, found.hexdigest()), lambda: entries)
