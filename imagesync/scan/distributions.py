# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH110, PTH112, PTH116, PTH118, PTH119, PTH208
"""Installed distributions, read from their metadata folders; nothing is run and nothing imported.

The same code reads an interpreter's ``sys.path`` and the folders of a prefix that can't run here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from imagesync.scan.direct_url import parse_direct_url
from imagesync.scan.environment import Finding, Package, Severity, Source
from imagesync.scan.metadata import Headers, parse_headers, read_bytes, read_headers
from imagesync.scan.names import canonical_name, is_valid_name, is_valid_version

_METADATA_HEADERS = ("name", "version", "requires-dist", "requires-python")
_WHEEL_HEADERS = ("root-is-purelib", "tag")
# uv writes REQUESTED for every package, so of its packages nothing is known.
_WRITES_REQUESTED = frozenset({"pip"})


@dataclass
class Folder:
    """What one folder of ``sys.path`` holds, as far as a scan cares.

    Parameters
    ----------
    path
        The folder, or the zipped egg.
    packages
        In the order of their file names; a name may come more than once.
    pth, egg_links, finders
        File names: ``*.pth``, ``*.egg-link``, ``__editable__*_finder.py``.
    links
        Names of symbolic links.
    """

    path: str
    packages: list[Package] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    pth: list[str] = field(default_factory=list)
    egg_links: list[str] = field(default_factory=list)
    finders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def read_folder(path: str) -> Folder:
    """Return what the folder *path* holds; what can't be read becomes a finding."""
    folder = Folder(path)
    if path.endswith(".egg"):
        _read_egg(path, folder)
        return folder
    try:
        with os.scandir(path) as entries:
            named = sorted((entry.name, entry.is_symlink()) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return folder  # sys.path names folders that don't exist, and zip archives
    except OSError as error:
        folder.findings.append(_unreadable(path, error))
        return folder
    for name, is_link in named:
        _sort_entry(name, is_link, folder)
    _summarise_missing_records(folder)
    return folder


def _sort_entry(name: str, is_link: bool, folder: Folder) -> None:
    path = os.path.join(folder.path, name)
    if name.startswith("~"):
        folder.findings.append(_leftover(path, name))
    elif name.endswith(".dist-info"):
        _read_metadata_folder(path, folder)
    elif name.endswith(".egg-info"):
        _read_egg_info(path, folder)
    elif name.endswith(".egg-link"):
        folder.egg_links.append(name)
    elif name.endswith(".pth"):
        folder.pth.append(name)
    elif name.startswith("__editable__") and name.endswith("_finder.py"):
        folder.finders.append(name)
    elif is_link:
        folder.links.append(name)


def _read_metadata_folder(path: str, folder: Folder) -> None:
    """Read a ``.dist-info`` folder (the core metadata and recording-installs specifications)."""
    try:
        files = frozenset(os.listdir(path))
    except OSError as error:
        folder.findings.append(_unreadable(path, error))
        return
    if "METADATA" not in files:
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "metadata-missing",
                f"{path} has no METADATA, so it says nothing about a package",
                path=path,
                hint="Delete the folder, and install the package again if it is needed.",
            )
        )
        return
    headers = _headers(os.path.join(path, "METADATA"), folder)
    identity = headers and _identity(headers, path, folder)
    if not headers or not identity:
        return
    name, version = identity
    installer = _text(os.path.join(path, "INSTALLER"), folder).strip() if "INSTALLER" in files else ""
    requested: bool | None = None
    if installer in _WRITES_REQUESTED:
        requested = "REQUESTED" in files
    source = _source(path, folder) if "direct_url.json" in files else Source()
    if source.editable:
        requested = True  # no dependency can ask for an editable installation
    purelib, tags = _wheel_facts(path, folder) if "WHEEL" in files else (None, ())
    folder.packages.append(
        Package(
            name=canonical_name(name),
            version=version,
            manager="conda" if installer == "conda" else "pip",
            source=source,
            requested=requested,
            purelib=purelib,
            location=folder.path,
            metadata_path=path,
            installer=installer,
            tags=tags,
            requires=headers.all("requires-dist"),
            requires_python=headers.first("requires-python") or None,
            has_record="RECORD" in files,
        )
    )


def _read_egg_info(path: str, folder: Folder) -> None:
    """Read an ``.egg-info``: a folder of setuptools, or a file of distutils."""
    if os.path.isdir(path):
        _read_pkg_info_folder(path, folder)
        return
    headers = _headers(path, folder)
    if headers:
        _add_egg(headers, path, folder, requires=headers.all("requires-dist"), has_record=False)


def _read_pkg_info_folder(path: str, folder: Folder) -> None:
    try:
        files = frozenset(os.listdir(path))
    except OSError as error:
        folder.findings.append(_unreadable(path, error))
        return
    if "PKG-INFO" not in files:
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "metadata-missing",
                f"{path} has no PKG-INFO, so it says nothing about a package",
                path=path,
                hint="Delete the folder, and install the package again if it is needed.",
            )
        )
        return
    headers = _headers(os.path.join(path, "PKG-INFO"), folder)
    if not headers:
        return
    requires = headers.all("requires-dist")
    if not requires and "requires.txt" in files:
        requires = requires_from_text(_text(os.path.join(path, "requires.txt"), folder))
    _add_egg(headers, path, folder, requires=requires, has_record="installed-files.txt" in files)


def _read_egg(path: str, folder: Folder) -> None:
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
            headers = parse_headers(archive.read("EGG-INFO/PKG-INFO"), _METADATA_HEADERS)
            text = archive.read("EGG-INFO/requires.txt") if "EGG-INFO/requires.txt" in names else b""
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        folder.findings.append(_unreadable(path, error))
        return
    requires = headers.all("requires-dist") or requires_from_text(text.decode("utf-8", "replace"))
    _add_egg(headers, path, folder, requires=requires, has_record=False)


def _add_egg(
    headers: Headers, path: str, folder: Folder, *, requires: tuple[str, ...], has_record: bool
) -> None:
    identity = _identity(headers, path, folder)
    if identity is None:
        return
    folder.packages.append(
        Package(
            name=canonical_name(identity[0]),
            version=identity[1],
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


def _identity(headers: Headers, path: str, folder: Folder) -> tuple[str, str] | None:
    """Return name and version: from the headers, or from the folder's own name where they are silent."""
    name, version = headers.first("name"), headers.first("version")
    if not name or not version:
        named, versioned = _split(os.path.basename(path))
        missing = " and ".join(key for key, value in (("name", name), ("version", version)) if not value)
        name, version = name or named, version or versioned
        usable = bool(name and version)
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "metadata-incomplete",
                f"the metadata in {path} gives no {missing}"
                + (f"; taken from its file name: {name} {version}" if usable else ", so it is left out"),
                path=path,
                package=canonical_name(name) if name and is_valid_name(name) else None,
                hint="Install the package again." if usable else "Delete it, or install the package again.",
            )
        )
        if not usable:
            return None
    if not is_valid_name(name):
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "invalid-name",
                f"{path} names its package {name!r}, which isn't a valid name, so it is left out",
                path=path,
                hint="Delete it, or install the package again.",
            )
        )
        return None
    if not is_valid_version(version):
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "invalid-version",
                f"{name} has the version {version!r}, which isn't a version in the sense of PEP 440",
                path=path,
                package=canonical_name(name),
                hint=f"Install a release of {name} that has a valid version.",
            )
        )
    return name, version


def _split(basename: str) -> tuple[str, str]:
    """Return name and version from the name of a metadata folder, empty where it has none."""
    stem, _, kind = basename.rpartition(".")
    if kind == "egg-info":
        name, _, rest = stem.partition("-")
        return (name, rest.partition("-py")[0]) if rest else (stem, "")
    if kind == "dist-info":
        name, _, version = stem.rpartition("-")
        return (name, version) if name else ("", "") if stem.startswith("-") else (stem, "")
    return "", ""


def _source(path: str, folder: Folder) -> Source:
    file = os.path.join(path, "direct_url.json")
    try:
        return parse_direct_url(read_bytes(file))
    except (OSError, ValueError) as error:
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "invalid-direct-url",
                f"{file} can't be used, so the package counts as one from an index: {_reason(error)}",
                path=file,
                hint="Install the package again from where it came from.",
            )
        )
        return Source()


def _wheel_facts(path: str, folder: Folder) -> tuple[bool | None, tuple[str, ...]]:
    file = os.path.join(path, "WHEEL")
    try:
        headers = read_headers(file, _WHEEL_HEADERS)
    except OSError as error:
        folder.findings.append(_unreadable(file, error))
        return None, ()
    purelib = {"true": True, "false": False}.get(headers.first("root-is-purelib").lower())
    return purelib, headers.all("tag")


def _headers(path: str, folder: Folder, wanted: Collection[str] = _METADATA_HEADERS) -> Headers | None:
    try:
        headers = read_headers(path, wanted)
    except OSError as error:
        folder.findings.append(_unreadable(path, error))
        return None
    if not headers.utf8:
        folder.findings.append(
            Finding(
                Severity.INFO,
                "metadata-not-utf8",
                f"{path} isn't valid UTF-8; it was read as Latin-1 where that matters",
                path=path,
            )
        )
    return headers


def _text(path: str, folder: Folder) -> str:
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except OSError as error:
        folder.findings.append(_unreadable(path, error))
        return ""


def _leftover(path: str, name: str) -> Finding:
    return Finding(
        Severity.WARNING,
        "interrupted-uninstall",
        f"{path} is left over from an interrupted uninstall or upgrade; it isn't a package",
        path=path,
        hint=f"Delete it: {name} is the old copy that pip renamed before it removed it.",
    )


def _unreadable(path: str, error: Exception) -> Finding:
    return Finding(
        Severity.WARNING,
        "unreadable",
        f"{path} can't be read: {_reason(error)}",
        path=path,
        hint="Check its permissions.",
    )


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _summarise_missing_records(folder: Folder) -> None:
    """Say once a folder which packages have no list of their files; a system's folder has hundreds."""
    missing = sorted(
        package.name
        for package in folder.packages
        if not package.has_record and not package.metadata_path.endswith((".egg-info", "EGG-INFO"))
    )
    if missing:
        folder.findings.append(
            Finding(
                Severity.INFO,
                "no-record",
                f"{len(missing)} of the packages in {folder.path} have no RECORD of their files: "
                + ", ".join(missing[:5])
                + (" ..." if len(missing) > 5 else ""),
                path=folder.path,
                hint="They are taken from an index; their installed files can't be copied.",
            )
        )


def read_folders(paths: Sequence[str]) -> list[Folder]:
    """Return what each of *paths* holds, in their order; a folder that comes twice is read once."""
    seen: set[tuple[int, int]] = set()
    folders = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        key = (status.st_dev, status.st_ino)
        if key in seen:  # lib64 is a link to lib in many virtual environments
            continue
        seen.add(key)
        folders.append(read_folder(path))
    return folders
