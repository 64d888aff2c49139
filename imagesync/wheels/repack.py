"""Repacking installed files, by RECORD, as wheels: exactly the bytes that run here."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.tags import parse_tag

from imagesync.core.archive_members import zip_member
from imagesync.errors import WheelError
from imagesync.lock.lock import Target
from imagesync.lock.wheel_tags import target_tags
from imagesync.scan.distributions.metadata import (
    InstalledFile,
    entry_point_scripts,
    installed_files,
    script_name,
)
from imagesync.scan.environment import Interpreter, Package
from imagesync.scan.modifications.modification import Modification
from imagesync.wheels.sources.eggs import egg_stem, read_egg_files, wheel_members
from imagesync.wheels.sources.source_digests import has_record, installed_digest
from imagesync.wheels.wheel_checks import host_is_target, is_library, needed_glibc

# Of a path that is missing, leads through a file or a circle of links, or is too long to exist.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Repacked:
    """A wheel made from installed files.

    Parameters
    ----------
    path
        The wheel.
    refused
        Entries of RECORD that the wheel doesn't have, because they are no files of the package: they lead out
        of the environment, or to a folder or a device.
    """

    path: Path
    refused: tuple[str, ...] = ()


def is_portable(package: Package, *, python: Interpreter, target: Target) -> bool:
    """Return True if the installed files of *package* fit *target* by their tags.

    :func:`portable_digest` also checks the glibc that its libraries require.
    """
    if not (package.is_egg or has_record(package)) or not package.tags or not package.has_identity:
        return False
    if package.purelib and all(tag.endswith("-none-any") for tag in package.tags):
        return True
    tags = frozenset().union(*map(parse_tag, package.tags))
    return host_is_target(python, target) and not tags.isdisjoint(target_tags(target))


def portable_digest(
    package: Package | None,
    *,
    python: Interpreter,
    target: Target,
    modification: Modification | None = None,
) -> str:
    """Return the digest of the installed files of *package*, ``sha256:<hex>``, if they fit *target*.

    *modification* is the difference to RECORD, if there is one.

    Returns
    -------
    str
        Empty if the files don't fit *target*, or a library requires a newer glibc.
    """
    if package is None or not is_portable(package, python=python, target=target):
        return ""
    if any(needed_glibc(library) > target.glibc[1] for library in _libraries(package)):
        return ""
    return installed_digest(package, modification)


def _libraries(package: Package) -> Iterator[bytes]:
    if package.is_egg:
        yield from (file.content for file in read_egg_files(package) if is_library(file.path))
        return
    for file in installed_files(package):
        if is_library(file.path) and (content := _read(package, file)) is not None:
            yield content[0]


def repack(
    package: Package, *, python: Interpreter, into: Path, modification: Modification | None = None
) -> Repacked:
    """Return a wheel of the installed files of *package*, in the folder *into*.

    Files that were added to it since its installation are those in *modification*. The same files give the
    same bytes on any machine: times, owners, the interpreter's path in scripts, bytecode and the installer's
    metadata are omitted.

    RECORD and links may lead out of the environment. A file there belongs to the package only if RECORD has
    its sha256, as with links into the cache of uv or conda; otherwise it may be any file of the user.

    Raises
    ------
    WheelError
        An installed file can't be read.
    """
    if package.is_egg:
        return Repacked(_repack_egg(package, into))
    stem = _stem(package)
    data = f"{stem}.data"
    generated = entry_point_scripts(package.metadata_path)
    folders = tuple(f"{os.path.realpath(each).rstrip('/')}/" for each in (python.prefix, package.location))
    refused: list[str] = []
    files: dict[str, InstalledFile] = {}
    added = () if modification is None else (InstalledFile(path, "") for path in modification.added)
    for file in (*installed_files(package), *added):
        if not _is_utf8(file.path):
            refused.append(file.path)
            continue
        member_name = _member_name(file.path, package, python, data)
        if member_name is not None and not (
            member_name.startswith(f"{data}/scripts/") and script_name(member_name) in generated
        ):
            files[member_name] = file
    wheel = into / f"{stem}-{_compressed_tags(package)}.whl"

    def members() -> Iterator[tuple[str, bytes, bool, str]]:
        # One file at a time, to limit memory. The metadata last, as the specification recommends.
        for member_name in sorted(files, key=lambda name: (name.startswith(f"{stem}.dist-info/"), name)):
            file = files[member_name]
            if (content := _read(package, file)) is None:
                if os.path.lexists(f"{package.location}/{file.path}"):
                    refused.append(file.path)
                continue  # deleted since its installation
            bytes_now, executable = content
            digest = hashlib.sha256(bytes_now).digest()
            where = os.path.realpath(f"{package.location}/{file.path}")
            if digest.hex() != file.sha256 and not where.startswith(folders):
                refused.append(file.path)
                continue
            if member_name.startswith(f"{data}/scripts/"):
                bytes_now, executable = _portable_script(bytes_now, python), True
                digest = hashlib.sha256(bytes_now).digest()
            yield member_name, bytes_now, executable, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    write_wheel(wheel, members(), record=f"{stem}.dist-info/RECORD")
    return Repacked(wheel, tuple(refused))


def _repack_egg(package: Package, into: Path) -> Path:
    stem = egg_stem(package)
    wheel = into / f"{stem}-{_compressed_tags(package)}.whl"
    members = (
        (path, content, executable, file_digest(content))
        for path, content, executable in wheel_members(package)
    )
    write_wheel(wheel, members, record=f"{stem}.dist-info/RECORD")
    return wheel


def file_digest(content: bytes) -> str:
    """Return the sha256 of *content* as in RECORD, without ``sha256=``."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _stem(package: Package) -> str:
    return Path(package.metadata_path).name.removesuffix(".dist-info")


def _compressed_tags(package: Package) -> str:
    """Return the tags as in the filename of a wheel (PEP 425, compressed tag sets)."""
    tags = sorted({(t.interpreter, t.abi, t.platform) for tag in package.tags for t in parse_tag(tag)})
    return "-".join(".".join(dict.fromkeys(tag[part] for tag in tags)) for part in range(3))


def _member_name(path: str, package: Package, python: Interpreter, data: str) -> str | None:
    """Return the path of an installed file in a wheel; ``None`` if it is outside the environment."""
    if not path.startswith("../") and not PurePosixPath(path).is_absolute():
        return os.path.normpath(path)
    where = PurePosixPath(os.path.normpath(Path(package.location, path)))
    prefix = PurePosixPath(os.path.normpath(python.prefix))
    if not where.is_relative_to(prefix):
        return None
    inside = where.relative_to(prefix)
    if len(inside.parts) < 2:
        return f"{data}/data/{inside}" if inside.parts else None
    if inside.parts[0] in ("bin", "Scripts"):
        return f"{data}/scripts/{PurePosixPath(*inside.parts[1:])}"
    if inside.parts[0] in ("include", "Include"):
        # Installers put headers below include/site/pythonX.Y/<name>, which a wheel omits.
        known = ("include", "Include", "site", f"python{python.minor}", _stem(package).split("-")[0])
        rest = [part for part in inside.parts if part not in known]
        return f"{data}/headers/{'/'.join(rest)}"
    return f"{data}/data/{inside}"


def _is_utf8(path: str) -> bool:
    """Return True if *path* can be the name of a member; other bytes of RECORD are surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _portable_script(content: bytes, python: Interpreter) -> bytes:
    """Return a script with ``#!python`` in place of this environment's interpreter.

    A wheel has that line (binary distribution format, "Recommended installer features"), and installers
    replace it by the interpreter's path. They keep other first lines.
    """
    first, _, rest = content.partition(b"\n")
    second, _, after = rest.partition(b"\n")
    if first == b"#!/bin/sh" and second.startswith(b"'''exec'"):
        # For a path with spaces, or one that is too long, installers write three lines for the shell.
        return b"#!python\n" + after.partition(b"\n")[2]
    if first.startswith(b"#!") and first[2:].lstrip(b' "').startswith(os.fsencode(python.prefix)):
        return b"#!python\n" + rest
    return content


def _read(package: Package, file: InstalledFile) -> tuple[bytes, bool] | None:
    """Return the content of an installed file, and whether it can be run; ``None`` if it is no file."""
    where = f"{package.location}/{file.path}"
    try:
        mode = os.stat(where).st_mode  # noqa: PTH116 - thousands of small files
        if not stat.S_ISREG(mode):
            return None  # reading a pipe or a device may never end
        with open(where, "rb") as stream:  # noqa: PTH123
            return stream.read(), bool(mode & stat.S_IXUSR)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise WheelError(
            f"{package.name} {package.version}: the installed file {where} can't be read: {error.strerror}.",
            hint="Make it readable for yourself, or install the package again.",
        ) from error


def write_wheel(wheel: Path, members: Iterator[tuple[str, bytes, bool, str]], *, record: str) -> None:
    """Write the archive without times; a member is name, content, executable bit and digest."""
    rows = io.StringIO()
    lines = csv.writer(rows, lineterminator="\n")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content, executable, digest in members:
            lines.writerow((name, f"sha256={digest}", len(content)))
            archive.writestr(zip_member(name, executable=executable), content, zipfile.ZIP_DEFLATED)
        lines.writerow((record, "", ""))
        archive.writestr(zip_member(record), rows.getvalue().encode(), zipfile.ZIP_DEFLATED)
