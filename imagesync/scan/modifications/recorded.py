# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH118, PTH119
"""The files that installers recorded: RECORD (PEP 376) of distributions, ``paths_data`` of conda packages."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Literal, NamedTuple

from imagesync.core.files import read_bytes
from imagesync.scan.distributions.metadata import (
    InstalledFile,
    entry_point_scripts,
    is_by_installer,
    read_record,
    script_name,
)
from imagesync.scan.environment import CondaRecord, Environment, Package

OwnerKind = Literal["pip", "conda", "provided"]
Owner = tuple[OwnerKind, str]
"""The manager and the name of a package; ``provided`` for a distribution of a conda package."""

# What a RECORD may have besides sha256 (binary distribution format).
_OTHER_DIGESTS = ("sha384", "sha512")


class Claim(NamedTuple):
    """A file as one package has recorded it.

    Parameters
    ----------
    path
        As in :class:`~imagesync.scan.modifications.modification.Modification`.
    sha256
        In hexadecimal; empty if the package recorded none.
    original
        Of a file in which conda replaced a placeholder by the prefix: its sha256 before, and the placeholder.
    is_generated
        Whether an installer generates the file, so that no wheel holds it.
    other
        Without sha256: the name and the value of another digest.
    size
        In bytes, of a file without sha256; ``None`` if it isn't recorded.
    is_optional
        Whether it may be missing: bytecode, and what installers write for themselves.
    link
        Of a symbolic link of a conda package: the digests that its archive and its installer recorded.
    """

    owner: Owner
    path: str
    sha256: str = ""
    original: tuple[str, str] | None = None
    is_generated: bool = False
    is_optional: bool = False
    other: tuple[str, str] | None = None
    size: int | None = None
    link: tuple[str, str] | None = None


Claims = Mapping[str, list[Claim]]
"""Claims by absolute path."""


def read_claims(environment: Environment, conda_root: str) -> Claims:
    """Return the recorded files of all packages of *environment*.

    Parameters
    ----------
    conda_root
        The prefix of its conda packages, without links; empty if it has none.
    """
    claims: defaultdict[str, list[Claim]] = defaultdict(list)
    folders: dict[str, str] = {}
    for package in environment.packages:
        if package.has_record:
            location = folders.setdefault(package.location, os.path.realpath(package.location))
            for path, claim in _claims_of_distribution(package, location):
                claims[path].append(claim)
        elif package.is_egg:
            for path, claim in _claims_of_egg(package, os.path.realpath(environment.python.prefix)):
                claims[path].append(claim)
    for record in environment.conda:
        for path, claim in _claims_of_record(record, conda_root):
            claims[path].append(claim)
    for record in environment.replaced:  # what pip left of a package is nobody's, and still isn't the user's
        for path, claim in _claims_of_record(record, conda_root):
            claims[path].append(claim._replace(sha256="", owner=("provided", record.name), is_optional=True))
    return claims


def _claims_of_distribution(package: Package, location: str) -> Iterator[tuple[str, Claim]]:
    owner: Owner = ("provided" if package.conda else "pip", package.name)
    folder = f"{location}{os.sep}"
    dist_info = os.path.basename(package.metadata_path)
    generated = entry_point_scripts(package.metadata_path)
    given = package.location.replace("\\", "/").rstrip("/") + "/"
    for listed, digest, size in read_record(package.metadata_path):
        path = listed.removeprefix(given)
        if not path:
            continue  # the folder itself
        if ".." in path:
            path = os.path.normpath(path).replace(os.sep, "/")
        where = folder + path if path[0] not in "./" and os.sep == "/" else locate(location, path)
        if is_by_installer(path, dist_info):
            yield where, Claim(owner, path, is_optional=True)
        else:
            script = path.startswith("..") and script_name(path) in generated
            sha256 = InstalledFile(path, digest).sha256 or ""
            claim = Claim(owner, path, sha256, is_generated=script)
            yield where, claim if sha256 else _without_sha256(claim, digest, size)
    listing = os.path.join(package.metadata_path, "installed-files.txt")  # pip with setup.py install
    with contextlib.suppress(OSError):  # most have none
        for line in read_bytes(listing).decode("utf-8", "surrogateescape").splitlines():
            if line and "\0" not in line:
                where = locate(os.path.join(location, dist_info), line)
                yield where, Claim(owner, os.path.relpath(where, location).replace(os.sep, "/"))


def _without_sha256(claim: Claim, digest: str, size: int | None) -> Claim:
    file = InstalledFile(claim.path, digest)
    others = ((name, value) for name in _OTHER_DIGESTS if (value := file.hexdigest(name)))
    return claim._replace(other=next(others, None), size=size)


def locate(folder: str, path: str, *, syntax: ModuleType = os.path) -> str:
    """Return the path of a recorded file as a walk of the folders gives it.

    Parameters
    ----------
    path
        Relative to *folder*, with ``/``; or absolute.
    syntax
        The module for the paths of the system: :mod:`posixpath` or :mod:`ntpath`.
    """
    return str(syntax.normpath(syntax.join(folder, path)))


def _claims_of_egg(package: Package, prefix: str) -> Iterator[tuple[str, Claim]]:
    """Yield the scripts of an egg, which easy_install writes beside the interpreter and lists nowhere."""
    names = set(entry_point_scripts(package.metadata_path))
    with contextlib.suppress(OSError):  # it has none, or is an archive
        names.update(os.listdir(os.path.join(package.metadata_path, "scripts")))  # noqa: PTH208
    for name in names:
        for folder in ("bin", "Scripts"):
            path = os.path.join(prefix, folder, name)
            yield path, Claim(("pip", package.name), path, is_generated=True, is_optional=True)


def _claims_of_record(record: CondaRecord, root: str) -> Iterator[tuple[str, Claim]]:
    owner: Owner = ("conda", record.name)
    for path, entry in _paths_of(record, root).items():
        where = os.path.join(root, *path.split("/"))
        parent, name = os.path.split(path)
        if is_by_installer(f"{os.path.basename(parent)}/{name}", os.path.basename(parent)):
            yield where, Claim(owner, path, is_optional=True)
            continue
        sha256 = str(entry.get("sha256_in_prefix") or entry.get("sha256") or "").lower()
        placeholder = entry.get("prefix_placeholder")
        original = None
        if placeholder:
            if entry.get("sha256"):
                original = (str(entry["sha256"]).lower(), str(placeholder))
            if entry.get("file_mode") == "binary" and not entry.get("sha256_in_prefix"):
                sha256 = ""  # of the archive's file, which has another prefix
        generated = "entry_point" in str(entry.get("path_type", ""))
        kind = str(entry.get("path_type", ""))
        if kind in ("softlink", "directory", "pyc_file"):
            sha256 = ""
        claim = Claim(owner, path, sha256, original, generated)
        if kind == "softlink":
            claim = claim._replace(link=_digests_of(entry))
        yield where, claim


def _digests_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    return str(entry.get("sha256") or "").lower(), str(entry.get("sha256_in_prefix") or "").lower()


def _paths_of(record: CondaRecord, root: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of the files of a conda package by path; without facts where conda recorded none."""
    file = os.path.join(root, "conda-meta", f"{record.name}-{record.version}-{record.build}.json")
    try:
        document = json.loads(read_bytes(file))
        entries: dict[str, Mapping[str, Any]] = {path: {} for path in document.get("files", ())}
        for entry in document.get("paths_data", {}).get("paths", ()):
            entries[str(entry["_path"])] = entry
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # the scan reports it
    return entries
