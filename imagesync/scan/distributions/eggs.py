# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH110, PTH112, PTH118
"""Distributions of the formats before wheels: ``.egg-info`` and ``.egg``."""

from __future__ import annotations

import os

from imagesync.core.names import canonical_name
from imagesync.scan.distributions.folder import (
    METADATA_HEADERS,
    Folder,
    files_of,
    headers_of,
    identity_of,
    text_of,
    unreadable,
)
from imagesync.scan.distributions.metadata import Headers, parse_headers
from imagesync.scan.environment import Package


def read_egg_info(path: str, folder: Folder) -> None:
    """Read an ``.egg-info``: a folder of setuptools, or a file of distutils."""
    if os.path.isdir(path):
        _read_pkg_info_folder(path, folder)
        return
    headers = headers_of(path, folder)
    if headers:
        _add_egg(headers, path, folder, requires=headers.all("requires-dist"), has_record=False)


def _read_pkg_info_folder(path: str, folder: Folder) -> None:
    files = files_of(path, "PKG-INFO", folder)
    if files is None:
        return
    headers = headers_of(os.path.join(path, "PKG-INFO"), folder)
    if not headers:
        return
    requires = headers.all("requires-dist")
    if not requires and "requires.txt" in files:
        requires = requires_from_text(text_of(os.path.join(path, "requires.txt"), folder))
    _add_egg(headers, path, folder, requires=requires, has_record="installed-files.txt" in files)


def read_egg(path: str, folder: Folder) -> None:
    """Read an ``.egg``, a folder or a zip archive that is itself on ``sys.path``."""
    if os.path.isdir(path):
        if os.path.isdir(os.path.join(path, "EGG-INFO")):
            _read_pkg_info_folder(os.path.join(path, "EGG-INFO"), folder)
        return
    if not os.path.exists(path):
        return
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            headers = parse_headers(archive.read("EGG-INFO/PKG-INFO"), METADATA_HEADERS)
            text = archive.read("EGG-INFO/requires.txt") if "EGG-INFO/requires.txt" in names else b""
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        folder.findings.append(unreadable(path, error))
        return
    requires = headers.all("requires-dist") or requires_from_text(text.decode("utf-8", "replace"))
    _add_egg(headers, path, folder, requires=requires, has_record=False)


def _add_egg(
    headers: Headers, path: str, folder: Folder, *, requires: tuple[str, ...], has_record: bool
) -> None:
    named = identity_of(headers, path, folder)
    if named is None:
        return
    folder.packages.append(
        Package(
            name=canonical_name(named[0]),
            version=named[1],
            location=folder.path,
            metadata_path=path,
            requires=requires,
            requires_python=headers.first("requires-python") or None,
            has_record=has_record,
        )
    )


def requires_from_text(text: str) -> tuple[str, ...]:
    r"""Return a ``requires.txt`` of setuptools as ``Requires-Dist`` lines.

    >>> requires_from_text("a>=1\n\n[x]\nb\n\n[y:python_version < '3.9']\nc")
    ('a>=1', 'b; extra == "x"', 'c; (python_version < \'3.9\') and extra == "y"')
    """
    requires: list[str] = []
    suffix = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            extra, _, marker = line[1:-1].partition(":")
            conditions = [f"({marker})"] if marker and extra else [marker] if marker else []
            conditions += [f'extra == "{extra}"'] if extra else []
            suffix = "; " + " and ".join(conditions) if conditions else ""
        elif line and not line.startswith("#"):
            # A marker right behind a URL would be read as part of it.
            requires.append(line + (" " if suffix and "@" in line else "") + suffix)
    return tuple(requires)
