"""Unpacking sdists, which aren't trusted: nothing is written outside of the folder."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from imagesync.errors import WheelError

# Errors of the two libraries for archives that are truncated, corrupt, encrypted or inconsistent.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, RuntimeError)


def unpack_sdist(archive: Path, into: Path, *, name: str) -> Path:
    """Unpack the sdist *archive* (``.tar.gz`` or ``.zip``) into *into*, and return the project's folder.

    Raises
    ------
    WheelError
        The archive is damaged, or has paths or links that lead out of the folder.
    """
    into.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, into)
        else:
            _unpack_tar(archive, into)
            _check_links(into)
    except (*_DAMAGE, OSError, ValueError) as error:
        raise WheelError(
            f"{name}: the source archive {archive.name} can't be unpacked: {error}",
            hint="It may be damaged; fetch it again with --no-cache.",
        ) from error
    # PEP 625: one folder at the top, as in the archives of forges.
    inside = list(into.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else into


def _unpack_tar(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as source:
        for member in source:
            where = _inside(into, member.name)
            if member.isdir():
                where.mkdir(parents=True, exist_ok=True)
            elif member.issym():
                _inside(into, str(PurePosixPath(member.name).parent / member.linkname))
                where.parent.mkdir(parents=True, exist_ok=True)
                where.symlink_to(member.linkname)
            elif member.isfile() or member.islnk():
                where.parent.mkdir(parents=True, exist_ok=True)
                stream = source.extractfile(member)
                if stream is not None:
                    where.unlink(missing_ok=True)
                    with stream, where.open("xb") as target:
                        shutil.copyfileobj(stream, target)
                    where.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
            else:
                raise ValueError(f"{member.name!r} is neither a file, a folder nor a link")


def _check_links(into: Path) -> None:
    """Raise an error if a link leads out of *into*; a link may lead elsewhere once a later one exists."""
    top = into.resolve()
    for folder, folders, files in os.walk(into):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(top):
                raise ValueError(f"the link {path.relative_to(into).as_posix()!r} leads out of the archive")


def _unpack_zip(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        for member in source.infolist():
            where = _inside(into, member.filename)
            if member.is_dir():
                where.mkdir(parents=True, exist_ok=True)
                continue
            where.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as stream, where.open("xb") as target:
                shutil.copyfileobj(stream, target)
            where.chmod(0o755 if (member.external_attr >> 16) & stat.S_IXUSR else 0o644)


def _inside(folder: Path, name: str) -> Path:
    """Return the path of *name* below *folder*, following links that were unpacked before."""
    where = folder / name.replace("\\", "/")
    if PurePosixPath(name).is_absolute() or not where.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of the archive")
    if PurePosixPath(name).name == "..":
        raise ValueError(f"{name!r} leads out of the archive")
    return where
