"""The files that a conda package becomes in an environment, from its extracted archive.

Source: CEP 34 (contents of conda packages), and the prefix records of conda.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.files import read_chunks
from imagesync.errors import RenderError
from imagesync.image.conda.extracted_files import ExtractedFiles
from imagesync.image.conda.uncompiled_modules import is_valid_bytecode, library
from imagesync.image.layers.entries import Entry, directory_entry, file_entry, symlink_entry
from imagesync.image_layout import PREFIX, site_packages
from imagesync.standalone.image.conda_records import (
    bytecode_path,
    entry_point_script,
    entry_points,
    file_sha256,
    noarch_path,
    normal_mode,
)

if TYPE_CHECKING:
    from imagesync.store.store import StoredFile

_RECORDED: Final = ("path_type", "sha256", "size_in_bytes", "file_mode", "prefix_placeholder", "no_link")
_UNCHECKED: Final = (1).to_bytes(4, "little") + bytes(8)


@dataclass(frozen=True)
class InstalledFile:
    """A file, link or folder of a package in the environment.

    Parameters
    ----------
    path
        Relative to the prefix.
    entry
        Its entry in a layer.
    record
        What the package's prefix record has of it; empty for bytecode that it doesn't list.
    sha256
        Of the installed file, in hexadecimal; empty for links and folders, and for bytecode in no record.
    """

    path: str
    entry: Entry
    record: Mapping[str, Any]
    sha256: str = ""


class CondaFiles:
    """The files of one package, which can be read as long as its folder exists.

    Parameters
    ----------
    folder
        The extracted archive.
    filename
        Of the archive, for messages.
    minor
        The feature version of the environment's Python.
    is_python
        Whether it is a noarch package of Python.
    bytecode
        An archive of bytecode by paths below the library; ``None`` if there was nothing to compile it.
    """

    def __init__(
        self, folder: Path, *, filename: str, minor: str, is_python: bool, bytecode: StoredFile | None
    ) -> None:
        self._files = ExtractedFiles(folder, filename)
        self._folder = folder
        self._filename = filename
        self._modules = site_packages(minor).relative_to(PREFIX).as_posix()
        self._library = library(minor).relative_to(PREFIX).as_posix()
        self._is_python = is_python
        self._bytecode = bytecode

    @property
    def index(self) -> dict[str, Any]:
        """Return the content of the archive's ``info/index.json``."""
        return self._files.info("index.json")

    def __iter__(self) -> Iterator[InstalledFile]:
        """Yield the files sorted by path, then the bytecode that was compiled for them.

        Raises
        ------
        LockError, RenderError
            The archive isn't what it says, or has what an environment can't hold.
        """
        sources = {self._installed(each["_path"]): each for each in self._files.listed()}
        scripts = dict(self._scripts())
        compiled = self._compiled(sources)
        for path in sorted({*sources, *scripts}):
            if path in scripts:
                yield self._script(path, scripts[path])
            elif path not in compiled:
                yield self._file(path, sources[path])
        if self._bytecode is not None and compiled:
            with zipfile.ZipFile(self._bytecode.path) as archive:
                for path in sorted(compiled):
                    content = archive.read(path.removeprefix(f"{self._library}/"))
                    yield self._compiled_file(path, content, sources.get(path))

    def _installed(self, name: str) -> str:
        return noarch_path(name, self._modules) if self._is_python else name

    def _scripts(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and text of the scripts of a noarch package's entry points."""
        if self._is_python:
            for command, module, function in entry_points(self._folder):
                yield f"bin/{command}", entry_point_script(PREFIX, module, function).encode()

    def _compiled(self, sources: Mapping[str, object]) -> set[str]:
        """Return the paths of the bytecode that replaces what the archive has, if any."""
        if self._bytecode is None:
            return set()
        modules = (path for path in sources if path.endswith(".py") and path.startswith(f"{self._library}/"))
        expected = {bytecode_path(path) for path in modules}
        with zipfile.ZipFile(self._bytecode.path) as archive:
            return expected & {f"{self._library}/{name}" for name in archive.namelist()}

    def _script(self, path: str, text: bytes) -> InstalledFile:
        digest = hashlib.sha256(text).hexdigest()
        record = {
            "_path": path,
            "path_type": "unix_python_entry_point",
            "sha256": digest,
            "sha256_in_prefix": digest,
            "size_in_bytes": len(text),
        }
        return InstalledFile(path, file_entry(_in_image(path), text, mode=0o755), record, digest)

    def _compiled_file(self, path: str, content: bytes, listed: Mapping[str, Any] | None) -> InstalledFile:
        entry, digest = file_entry(_in_image(path), content), hashlib.sha256(content).hexdigest()
        if listed is not None:
            return InstalledFile(path, entry, self._record(path, listed, len(content), digest), digest)
        record = {"_path": path, "path_type": "pyc_file"} if path.startswith(self._modules) else {}
        return InstalledFile(path, entry, record if self._is_python else {}, digest)

    def _file(self, path: str, listed: Mapping[str, Any]) -> InstalledFile:
        source = self._folder / listed["_path"]
        try:
            state = os.lstat(source)
        except OSError as error:
            raise self._files.damaged(f"it lacks {listed['_path']}, which it lists") from error
        if stat.S_ISDIR(state.st_mode):
            return InstalledFile(path, directory_entry(_in_image(path)), self._record(path, listed))
        if stat.S_ISLNK(state.st_mode):
            # A Path drops a slash at the end.
            return self._link(path, listed, os.readlink(source))  # noqa: PTH115
        mode = normal_mode(stat.S_IMODE(state.st_mode))
        changed = self._changed(path, source, listed)
        if changed is None:
            return self._unchanged(path, source, listed, mode, state.st_size)
        entry, digest = file_entry(_in_image(path), changed, mode=mode), hashlib.sha256(changed).hexdigest()
        return InstalledFile(path, entry, self._record(path, listed, len(changed), digest), digest)

    def _unchanged(
        self, path: str, source: Path, listed: Mapping[str, Any], mode: int, size: int
    ) -> InstalledFile:
        """Return a file as it is in the archive, compared with its digest there when it is read."""
        digest = listed.get("sha256") or file_sha256(source)
        read = partial(self._read, source, listed["_path"], digest)
        entry = Entry(_in_image(path), mode=mode, size=size, read=read)
        return InstalledFile(path, entry, self._record(path, listed, size, digest), digest)

    def _link(self, path: str, listed: Mapping[str, Any], target: str) -> InstalledFile:
        place = posixpath.normpath(posixpath.join(PREFIX, posixpath.dirname(path), target))
        if not f"{place}/".startswith(f"{PREFIX}/"):
            raise RenderError(
                f"{self._filename} has a link that leads out of the environment: {path} -> {target}",
                hint="Tell the authors of the package. Leave it out with --ignore NAME.",
            )
        return InstalledFile(path, symlink_entry(_in_image(path), target), self._record(path, listed))

    def _changed(self, path: str, source: Path, listed: Mapping[str, Any]) -> bytes | None:
        """Return the content of a file that isn't installed as it is in the archive, or ``None``."""
        content = self._files.with_prefix(listed)
        if content is not None:
            return content
        if self._bytecode is None and path.endswith(".pyc") and path.startswith(f"{self._library}/"):
            return _unchecked(source)
        return None

    def _record(
        self, path: str, listed: Mapping[str, Any], size: int | None = None, digest: str = ""
    ) -> dict[str, Any]:
        record = {"_path": path, **{key: listed[key] for key in _RECORDED if listed.get(key)}}
        if record.get("path_type", "hardlink") == "hardlink" and digest:
            record["sha256_in_prefix"] = digest
            if self._files.is_old:
                record["size_in_bytes"] = size
        return record

    def _read(self, source: Path, name: str, digest: str) -> Iterator[bytes]:
        found = hashlib.sha256()
        with source.open("rb") as file:
            for piece in read_chunks(file):
                found.update(piece)
                yield piece
        if found.hexdigest() != digest:
            raise self._files.damaged(f"{name} isn't the file that it lists")


def conda_record(
    fields: Mapping[str, Any],
    index: Mapping[str, Any],
    paths: Iterable[Mapping[str, Any]],
) -> bytes:
    """Return the prefix record of a package.

    Parameters
    ----------
    fields
        What the lock knows, with conda's names.
    index
        The archive's ``info/index.json``.
    paths
        The records of its files.
    """
    ordered = sorted(paths, key=lambda each: each["_path"])
    record = {
        **index,
        **fields,
        "files": [each["_path"] for each in ordered],
        "paths_data": {"paths_version": 1, "paths": ordered},
        "link": {"source": "", "type": 1},
        "extracted_package_dir": "",
        "package_tarball_full_path": "",
    }
    return f"{json.dumps(record, sort_keys=True)}\n".encode()


def _in_image(path: str) -> str:
    return f"{PREFIX.relative_to('/').as_posix()}/{path}"


def _unchecked(path: Path) -> bytes | None:
    """Return bytecode that the time of its source validates in a form without times, or ``None``.

    Nobody looks at the hash of an unchecked pyc (PEP 552), and only its own interpreter could tell it.
    """
    module = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    if not module.exists() or not is_valid_bytecode(module, path):
        return None
    content = path.read_bytes()
    return content[:4] + _UNCHECKED + content[16:]
