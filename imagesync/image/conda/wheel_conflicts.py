"""Refuse wheels that would overwrite files of conda packages."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesync.errors import LockError
from imagesync.image_layout import PREFIX, site_packages

if TYPE_CHECKING:
    from imagesync.lock.conda.archive_files import ArchiveFiles
    from imagesync.store.store import StoredFile

_SHOWN = 10


def refuse_file_conflicts(
    contents: Mapping[str, ArchiveFiles],
    wheels: Sequence[StoredFile],
    *,
    minor: str,
    owners: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Check that no wheel has a file of a conda package with other content.

    The layer of pip's packages never changes files of conda's.

    Parameters
    ----------
    contents
        The content of each conda package, by its conda name.
    wheels
        The wheels of pip's layers.
    minor
        The feature version of the environment's Python.
    owners
        The package that each file is installed from that several packages have.

    Raises
    ------
    LockError
        A wheel has such a file; the message names each file with both packages.
    """
    owners = {path: name for name, package in contents.items() for path in package.files} | dict(owners)
    modules = site_packages(minor).relative_to(PREFIX).as_posix()
    found = [
        f"{path}: the conda package {owners[path]} has it, and so has {wheel.filename}"
        for wheel in wheels
        for path, content in _installed(wheel, modules, owners)
        if contents[owners[path]].files[path] != hashlib.sha256(content).hexdigest()
    ]
    if not found:
        return
    lines = [f"- {line}" for line in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"- and {len(found) - _SHOWN} more")
    raise LockError(
        "Packages of pip would change files of conda's packages:\n" + "\n".join(lines),
        hint='Leave one of the two out (levels = { NAME = "ignore" }), or take both from conda or from pip.',
    )


def _installed(wheel: StoredFile, modules: str, owners: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield installed path and content of the wheel's files that a conda package owns."""
    with zipfile.ZipFile(wheel.path) as archive:
        names = archive.namelist()
        for name in names:
            if not name.endswith("/") and (path := _target(name, modules)) in owners:
                yield path, archive.read(name)
        for command in _commands(archive, names):
            if (path := f"bin/{command}") in owners:
                yield path, b""


def _target(name: str, modules: str) -> str:
    """Return the installed path of a wheel's member, relative to the prefix."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return f"{modules}/{name}"
    scheme, _, inside = rest.partition("/")
    if scheme in ("purelib", "platlib"):
        return f"{modules}/{inside}"
    return {"scripts": f"bin/{inside}", "data": inside}.get(scheme, "")


def _commands(archive: zipfile.ZipFile, names: Sequence[str]) -> Iterator[str]:
    """Yield the commands that installers create for a wheel's entry points."""
    import configparser

    path = next((name for name in names if name.endswith(".dist-info/entry_points.txt")), None)
    if path is None or path.count("/") > 1:
        return
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(archive.read(path).decode(errors="replace"))
    for section in ("console_scripts", "gui_scripts"):
        if parser.has_section(section):
            yield from parser.options(section)
