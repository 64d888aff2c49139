"""The files that a wheel becomes in an environment, as uv writes them, without unpacking it.

Source: the binary distribution format and "Recording installed projects" (packaging.python.org).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.core.archive_members import ZIP_DAMAGE
from imagesync.core.files import read_chunks
from imagesync.core.names import canonical_name
from imagesync.errors import ImagesyncError, StoreError, WheelError
from imagesync.image.layers.entries import Entry, file_entry
from imagesync.image.layers.paths import check_paths
from imagesync.image_layout import PREFIX, PYTHON, site_packages

if TYPE_CHECKING:
    from imagesync.store.store import StoredFile

_EXECUTABLE: Final = 0o111
_DAMAGE: Final = (*ZIP_DAMAGE, csv.Error)
_CREATED: Final = {"INSTALLER": b"uv", "REQUESTED": b""}
# What uv writes, too; it names the interpreter by the path of the environment.
_SCRIPT: Final = """#!{python}
# -*- coding: utf-8 -*-
import sys
from {module} import {imported}
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit({function}())
"""
# The longest shebang that Linux reads is 127 characters; that of PREFIX is far shorter.


@dataclass(frozen=True)
class WheelMember:
    """A file of a wheel and its place in the environment.

    Parameters
    ----------
    path
        Relative to the root of the image.
    info
        The member of the archive.
    is_script
        Whether it goes among the scripts, where the first line may name the interpreter.
    """

    path: str
    info: zipfile.ZipInfo
    is_script: bool


class WheelContent:
    """An open wheel, whose entries can be read as long as it's open.

    Parameters
    ----------
    wheel
        With a valid file name of a wheel.
    minor
        The feature version of the environment's Python, such as ``3.12``.
    is_virtual
        Whether the environment is a virtual one, else it is conda's.

    Raises
    ------
    WheelError
        It isn't a wheel, or holds what a layer can't.
    """

    def __init__(self, wheel: StoredFile, *, minor: str, is_virtual: bool = True) -> None:
        self._filename = wheel.filename
        self._folder = site_packages(minor).relative_to("/").as_posix()
        self._minor = minor
        self._is_virtual = is_virtual
        try:
            self._archive = zipfile.ZipFile(wheel.path)
        except _DAMAGE as error:
            raise self._error(error) from error
        try:
            self.dist_info = self._find_dist_info()
            self.members = tuple(self._members())
            self._infos = {member.path: member.info for member in self.members}
            self.scripts = dict(self._entry_points())
            check_paths(self.paths, self._filename)
        except _DAMAGE as error:
            self._archive.close()
            raise self._error(error) from error
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> WheelContent:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    def entries(self) -> list[Entry]:
        """Return the files of the installed wheel; RECORD is the one of the installation.

        Raises
        ------
        WheelError
            The wheel is damaged.
        """
        try:
            return self._entries()
        except _DAMAGE as error:
            raise self._error(error) from error

    @property
    def paths(self) -> list[str]:
        """Return the paths of the files of the installed wheel that other packages may have, too."""
        return sorted({*self._infos, *self.scripts})

    def checksum(self, path: str) -> tuple[int, int]:
        """Return checksum and size of the file that gets *path*: files of other bytes have others."""
        info = self._infos.get(path)
        if info is None:
            script = self.scripts[path]
            return zlib.crc32(script), len(script)
        return info.CRC, info.file_size

    def read(self, path: str) -> bytes:
        """Return the content of the file that gets *path*."""
        info = self._infos.get(path)
        return self.scripts[path] if info is None else b"".join(self._read(info, ""))

    def _entries(self) -> list[Entry]:
        rows = self._record()
        record = f"{self.dist_info}/RECORD"
        record_path = f"{self._folder}/{record}"
        found: dict[str, Entry] = {}
        for member in self.members:
            if member.path != record_path:
                found[member.path] = self._entry(member, rows)
        generated = {path: (content, 0o755) for path, content in self.scripts.items()}
        for name, content in _CREATED.items():
            generated[f"{self._folder}/{self.dist_info}/{name}"] = content, 0o644
        for path, (content, mode) in generated.items():
            found[path] = file_entry(path, content, mode=mode)
            rows[path] = record_row(content)
        rows[record_path] = "", ""
        found[record_path] = file_entry(record_path, self._record_text(rows))
        return list(found.values())

    def _entry(self, member: WheelMember, rows: dict[str, tuple[str, str]]) -> Entry:
        """Return the entry of a member; *rows* gets the hash of what differs from the archive."""
        info = member.info
        mode = 0o755 if member.is_script or info.external_attr >> 16 & _EXECUTABLE else 0o644
        if member.is_script:
            content = self._archive.read(info)
            script = _script(content)
            if script is not None:
                if member.path in rows:
                    rows[member.path] = record_row(script)
                return file_entry(member.path, script, mode=mode)
        digest = rows.get(member.path, ("", ""))[0]
        read = partial(self._read, info, digest)
        return Entry(member.path, mode=mode, size=info.file_size, read=read)

    def _read(self, info: zipfile.ZipInfo, digest: str) -> Iterator[bytes]:
        """Yield the content of a member, and check it against its row of RECORD."""
        check = hashlib.sha256() if digest.startswith("sha256=") else None
        try:
            with self._archive.open(info) as file:
                for piece in read_chunks(file):
                    if check is not None:
                        check.update(piece)
                    yield piece
        except _DAMAGE as error:
            raise self._error(error, f"{info.filename}: ") from error
        if check is not None and _encoded(check.digest()) != digest.removeprefix("sha256="):
            raise WheelError(
                f"{info.filename} in {self._filename} isn't the file that the wheel's RECORD names.",
                hint="Tell the authors of the package; another version may be sound.",
            )

    def _members(self) -> Iterator[WheelMember]:
        data = self.dist_info.removesuffix(".dist-info") + ".data/"
        for info in self._archive.infolist():
            if info.is_dir():
                continue
            if not info.filename.startswith(data):
                yield WheelMember(f"{self._folder}/{info.filename}", info, False)
                continue
            scheme, _, rest = info.filename.removeprefix(data).partition("/")
            folder = self._scheme(scheme)
            if folder is None or not rest:
                raise self._damaged(f"{info.filename} is in no scheme that installers know")
            if scheme == "data" and rest.startswith("lib64/") and self._is_virtual:
                # A link of the environment.
                rest = rest.replace("lib64", "lib", 1)
            yield WheelMember(f"{folder}/{rest}", info, scheme == "scripts")

    def _scheme(self, name: str) -> str | None:
        prefix = PREFIX.relative_to("/").as_posix()
        distribution = canonical_name(self.dist_info.partition("-")[0])
        headers = f"site/python{self._minor}" if self._is_virtual else f"python{self._minor}"
        return {
            "purelib": self._folder,
            "platlib": self._folder,
            "scripts": f"{prefix}/bin",
            "data": prefix,
            "headers": f"{prefix}/include/{headers}/{distribution}",
        }.get(name)

    def _find_dist_info(self) -> str:
        name, version = self._filename.split("-")[:2]
        folders = {info.filename.partition("/")[0] for info in self._archive.infolist()}
        found = sorted(folder for folder in folders if folder.endswith(".dist-info"))
        if len(found) == 1:
            return found[0]
        expected = f"{name}-{version}.dist-info"
        if expected in found:
            return expected
        raise self._damaged("it hasn't exactly one .dist-info folder")

    def _record(self) -> dict[str, tuple[str, str]]:
        """Return hash and size in the wheel's RECORD by the path of the installed file."""
        try:
            text = self._archive.read(f"{self.dist_info}/RECORD").decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise self._damaged(f"it has no RECORD that can be read: {error}") from error
        paths = {member.info.filename: member.path for member in self.members}
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        return {paths[row[0]]: ((*row, "", "")[1], (*row, "", "")[2]) for row in rows if row[0] in paths}

    def _record_text(self, rows: dict[str, tuple[str, str]]) -> bytes:
        lines = sorted((self._recorded(path), *row) for path, row in rows.items())
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(lines)
        return text.getvalue().encode()

    def _recorded(self, path: str) -> str:
        """Return a path as RECORD has it: relative to site-packages."""
        if path.startswith(f"{self._folder}/"):
            return path[len(self._folder) + 1 :]
        prefix = PREFIX.relative_to("/").as_posix()
        return f"../../../{path[len(prefix) + 1 :]}"

    def _entry_points(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of the scripts that the wheel's entry points declare."""
        from installer.utils import parse_entrypoints

        try:
            text = self._archive.read(f"{self.dist_info}/entry_points.txt").decode()
        except KeyError:
            return
        try:
            points = list(parse_entrypoints(text))
        except Exception as error:
            # configparser's errors, and the library's assertions.
            raise self._damaged(f"its entry_points.txt can't be read: {error}") from error
        for name, module, attribute, _ in points:
            if not name or "/" in name or name in (".", ".."):
                raise self._damaged(f"its entry point {name!r} isn't the name of a file")
            script = _SCRIPT.format(
                python=PYTHON, module=module, imported=attribute.partition(".")[0], function=attribute
            )
            yield f"{PREFIX.relative_to('/').as_posix()}/bin/{name}", script.encode()

    def _error(self, error: Exception, member: str = "") -> ImagesyncError:
        """Return the error for what reading the archive raised; zipfile's own errors have no number."""
        if isinstance(error, OSError) and error.errno is not None:
            return StoreError(
                f"{self._filename} can't be read: {error.strerror}.",
                hint="If too many files are open, raise the limit: ulimit -n 1024.",
            )
        return self._damaged(f"{member}{error}")

    def _damaged(self, reason: str) -> WheelError:
        return WheelError(
            f"{self._filename} can't be put in an image: {reason}.",
            hint="Tell the authors of the package; another version may be sound.",
        )


def bytecode_entries(archive: Path, *, minor: str) -> Iterable[Entry]:
    """Return the entries of an archive of bytecode, read from it at once.

    Parameters
    ----------
    archive
        A ZIP archive with members relative to site-packages.
    minor
        The feature version of the environment's Python.
    """
    folder = site_packages(minor).relative_to("/").as_posix()
    with zipfile.ZipFile(archive) as content:
        return [file_entry(f"{folder}/{info.filename}", content.read(info)) for info in content.infolist()]


def record_row(content: bytes) -> tuple[str, str]:
    """Return hash and size of a file as RECORD has them.

    >>> record_row(b"")
    ('sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU', '0')
    """
    return f"sha256={_encoded(hashlib.sha256(content).digest())}", str(len(content))


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _script(content: bytes) -> bytes | None:
    r"""Return a script with the environment's interpreter, or ``None`` if it names none.

    >>> _script(b"#!python -u\npass\n"), _script(b"#!/bin/sh\n")
    (b'#!/opt/env/bin/python\npass\n', None)
    """
    line, newline, rest = content.partition(b"\n")
    if not line.startswith(b"#!python"):
        return None
    interpreter = f"#!{PYTHON}".encode()
    return interpreter + newline + rest
