# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH119, PTH208
"""The content of one folder of ``sys.path``, and readers of its metadata that report findings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from imagesync.core.files import read_bytes
from imagesync.core.names import MOST_LETTERS, canonical_name, is_valid_name, is_valid_version
from imagesync.scan.distributions.metadata import Headers, read_headers
from imagesync.scan.environment import Finding, Package, Severity

METADATA_HEADERS = ("name", "version", "requires-dist", "requires-python")


@dataclass
class Folder:
    """The content of one folder of ``sys.path`` that a scan needs.

    Parameters
    ----------
    path
        The folder, or the zipped egg.
    packages
        In the order of their file names; a name may come more than once.
    findings
        Findings about the folder's metadata.
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


def files_of(path: str, wanted: str, folder: Folder) -> frozenset[str] | None:
    """Return the file names in a metadata folder; ``None``, with a finding, if *wanted* is missing."""
    try:
        files = frozenset(os.listdir(path))
    except OSError as error:
        folder.findings.append(unreadable(path, error))
        return None
    if wanted in files:
        return files
    folder.findings.append(
        Finding(
            Severity.WARNING,
            "metadata-missing",
            f"{path} has no {wanted}, so it says nothing about a package",
            path=path,
            hint="Delete the folder, and install the package again if it is needed.",
        )
    )
    return None


def headers_of(path: str, folder: Folder) -> Headers | None:
    """Return the headers of a metadata file; ``None``, with a finding, if it can't be read."""
    try:
        headers = read_headers(path, METADATA_HEADERS)
    except OSError as error:
        folder.findings.append(unreadable(path, error))
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


def text_of(path: str, folder: Folder) -> str:
    """Return a file's text; empty, with a finding, if it can't be read."""
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except OSError as error:
        folder.findings.append(unreadable(path, error))
        return ""


def identity_of(headers: Headers, path: str, folder: Folder) -> tuple[str, str] | None:
    """Return name and version, from the headers or else from the name of the metadata folder."""
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
    if len(version) > MOST_LETTERS:
        folder.findings.append(
            Finding(
                Severity.WARNING,
                "invalid-version",
                f"{name} has a version of {len(version)} letters ({version[:20]}...), so it is left out",
                path=path,
                package=canonical_name(name),
                hint="Install the package again.",
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
    """Return name and version from the name of a metadata folder, each empty if it has none."""
    stem, _, kind = basename.rpartition(".")
    if kind == "egg-info":
        name, _, rest = stem.partition("-")
        return (name, rest.partition("-py")[0]) if rest else (stem, "")
    if kind == "dist-info":
        name, _, version = stem.rpartition("-")
        return (name, version) if name else ("", "") if stem.startswith("-") else (stem, "")
    return "", ""


def unreadable(path: str, error: Exception) -> Finding:
    """Return the finding that *path* can't be read."""
    return Finding(
        Severity.WARNING,
        "unreadable",
        f"{path} can't be read: {reason(error)}",
        path=path,
        hint="Check its permissions.",
    )


def reason(error: Exception) -> str:
    """Return the message of an error, without the path that an :class:`OSError` repeats."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
