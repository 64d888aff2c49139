# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH110, PTH112, PTH116, PTH118
"""Installed distributions, read from their metadata folders; nothing is run and nothing imported.

The same code reads an interpreter's ``sys.path`` and the folders of a prefix that can't run here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from imagesync.core.files import read_bytes
from imagesync.core.names import canonical_name
from imagesync.core.progress import Progress, SilentProgress, slow_task
from imagesync.scan.distributions.direct_url import parse_direct_url
from imagesync.scan.distributions.folder import (
    METADATA_HEADERS,
    Folder,
    files_of,
    headers_of,
    identity_of,
    reason,
    text_of,
    unreadable,
)
from imagesync.scan.distributions.metadata import Headers, parse_headers, read_headers
from imagesync.scan.environment import Finding, Package, Severity, Source

# Tags become part of a file's name (PEP 425), and a compressed set grows with the cube of its length.
_TAG = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+")
_TAG_LENGTH = 200
_EGG = re.compile(r"-py(?P<version>3\.[0-9]{1,2})(-(?P<platform>[A-Za-z0-9_.-]{1,60}))?\.egg\Z")
_WHEEL_HEADERS = ("root-is-purelib", "tag")
# uv writes REQUESTED for every package, so it says nothing about uv's.
_WRITES_REQUESTED = frozenset({"pip"})


def read_folder(path: str, progress: Progress | None = None) -> Folder:
    """Return the content of the folder *path*; unreadable files are findings."""
    folder = Folder(path)
    if path.endswith(".egg"):
        read_egg(path, folder)
        return folder
    try:
        with os.scandir(path) as entries:
            named = sorted((entry.name, entry.is_symlink()) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return folder  # sys.path names folders that don't exist, and zip archives
    except OSError as error:
        folder.findings.append(unreadable(path, error))
        return folder
    total = sum(name.endswith((".dist-info", ".egg-info")) for name, _ in named)
    with slow_task(progress or SilentProgress(), "Reading metadata", total=total, unit="packages") as task:
        for name, is_link in named:
            _sort_entry(name, is_link, folder)
            task.advance(name.endswith((".dist-info", ".egg-info")))
    _summarise_missing_records(folder)
    return folder


def _sort_entry(name: str, is_link: bool, folder: Folder) -> None:
    path = os.path.join(folder.path, name)
    if name.startswith("~"):
        folder.findings.append(_leftover(path, name))
    elif name.endswith(".dist-info"):
        _read_metadata_folder(path, folder)
    elif name.endswith(".egg-info"):
        read_egg_info(path, folder)
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
    files = files_of(path, "METADATA", folder)
    if files is None:
        return
    headers = headers_of(os.path.join(path, "METADATA"), folder)
    named = headers and identity_of(headers, path, folder)
    if not headers or not named:
        return
    name, version = named
    installer = text_of(os.path.join(path, "INSTALLER"), folder).strip() if "INSTALLER" in files else ""
    requested: bool | None = None
    if installer in _WRITES_REQUESTED:
        requested = "REQUESTED" in files
    source = _source(path, folder) if "direct_url.json" in files else Source()
    if source.refused and (source.vcs == "git" or "RECORD" not in files):
        folder.findings.append(_refused(path, canonical_name(name), source, has_record="RECORD" in files))
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
            has_identity=bool(headers.first("name") and headers.first("version")),
        )
    )


def _source(path: str, folder: Folder) -> Source:
    file = os.path.join(path, "direct_url.json")
    try:
        return parse_direct_url(read_bytes(file))
    except (OSError, ValueError) as error:
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "invalid-direct-url",
                f"{file} can't be used, so the package counts as one from an index: {reason(error)}",
                path=file,
                hint="Install the package again from where it came from.",
            )
        )
        return Source()


def _refused(path: str, name: str, source: Source, *, has_record: bool) -> Finding:
    instead = "its installed files are used" if has_record else "no RECORD lists its installed files"
    return Finding(
        Severity.WARNING if has_record else Severity.ERROR,
        "source-refused",
        f"{name}: nothing is fetched from where it was installed from: {source.refused}; {instead}",
        path=os.path.join(path, "direct_url.json"),
        package=name,
        hint="Find out who wrote that file. Install the package again, from an index, a folder or a git URL; "
        f"or leave it out: --ignore {name}",
    )


def _wheel_facts(path: str, folder: Folder) -> tuple[bool | None, tuple[str, ...]]:
    file = os.path.join(path, "WHEEL")
    try:
        headers = read_headers(file, _WHEEL_HEADERS)
    except OSError as error:
        folder.findings.append(unreadable(file, error))
        return None, ()
    purelib = {"true": True, "false": False}.get(headers.first("root-is-purelib").lower())
    tags = headers.all("tag")
    if invalid := [tag for tag in tags if len(tag) > _TAG_LENGTH or not _TAG.fullmatch(tag)]:
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "invalid-wheel-tag",
                f"{file} has the tag {invalid[0][:_TAG_LENGTH]!r}, which no wheel has; it counts as none",
                path=file,
                hint="Install the package again.",
            )
        )
    return purelib, tuple(tag for tag in tags if tag not in invalid)


def _leftover(path: str, name: str) -> Finding:
    return Finding(
        Severity.WARNING,
        "interrupted-uninstall",
        f"{path} is left over from an interrupted uninstall or upgrade; it isn't a package",
        path=path,
        hint=f"Delete it: {name} is the old copy that pip renamed before it removed it.",
    )


def _summarise_missing_records(folder: Folder) -> None:
    """Report packages without a list of their files, once a folder: a system's folder has hundreds."""
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


def read_folders(paths: Sequence[str], progress: Progress) -> list[Folder]:
    """Return the content of each folder in *paths*, in their order and once each."""
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
        folders.append(read_folder(path, progress))
    return folders


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

    from imagesync.core.archive_members import ZIP_DAMAGE

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            headers = parse_headers(archive.read("EGG-INFO/PKG-INFO"), METADATA_HEADERS)
            text = archive.read("EGG-INFO/requires.txt") if "EGG-INFO/requires.txt" in names else b""
    except (*ZIP_DAMAGE, KeyError) as error:
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
    purelib, tags = _egg_facts(folder.path)
    folder.packages.append(
        Package(
            name=canonical_name(named[0]),
            version=named[1],
            purelib=purelib,
            tags=tags,
            location=folder.path,
            metadata_path=path,
            requires=requires,
            requires_python=headers.first("requires-python") or None,
            has_record=has_record,
        )
    )


def _egg_facts(path: str) -> tuple[bool | None, tuple[str, ...]]:
    """Return True if an egg is pure Python, and its tags in the form of a wheel's, by its file name.

    >>> _egg_facts("/site/demo-1.0-py3.11.egg"), _egg_facts("/site/demo-1.0-py3.11-linux-x86_64.egg")
    ((True, ('py311-none-any',)), (False, ('cp311-cp311-linux_x86_64',)))
    """
    match = _EGG.search(path.replace(os.sep, "/").rpartition("/")[2])
    if match is None:
        return None, ()
    version, platform = match["version"].replace(".", ""), match["platform"]
    if platform is None:
        return True, (f"py{version}-none-any",)
    return False, (f"cp{version}-cp{version}-{re.sub(r'[-.]', '_', platform)}",)


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
