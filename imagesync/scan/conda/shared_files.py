# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH112, PTH114, PTH116, PTH118
"""Files that several conda packages have, and which of them is the installed one."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from imagesync.core.files import read_bytes
from imagesync.scan.conda.prefix_records import with_placeholder
from imagesync.scan.environment import CondaRecord, Interpreter

SITE_PACKAGES = "site-packages/"
"""The prefix of module paths for all platforms and versions of Python."""
EXECUTABLE, NOT_EXECUTABLE = "+x", "-x"
"""Stand for the package of files that only their mode may tell apart."""
_Entry = Mapping[str, Any]
_IMPORT = re.compile(rb"^from ([\w.]+) import ", re.MULTILINE)
_MODULES = re.compile(r"(lib/python3\.\d+t?|Lib)/site-packages/")


def shared_files(records: Iterable[CondaRecord], python: Interpreter) -> Mapping[str, tuple[str, ...]]:
    """Return the packages that have each file that several of *records* have.

    conda and micromamba keep the file that is linked last, and py-rattler puts the others aside. Of files
    with the same content only the mode is told: archives may have different ones, and no record has any.

    Parameters
    ----------
    records
        The conda packages of an environment.
    python
        The interpreter of their environment.

    Returns
    -------
    Mapping
        Path relative to the prefix, or to site-packages if it begins with that, to conda names. The first
        is the package whose file is installed, or empty; or, of files with the same content,
        :data:`EXECUTABLE` or :data:`NOT_EXECUTABLE`, and nothing on Windows. All packages that have the file
        follow, sorted.
    """
    prefix = _root(python)
    packages = {record.name: _entries(record, prefix) for record in records}
    claims: defaultdict[str, list[_Claim]] = defaultdict(list)
    for name, entries in packages.items():
        for entry in entries:
            path = str(entry.get("original_path") or entry["_path"])
            if not path.endswith(".pyc"):  # it goes with its module
                claims[path].append(_Claim(name, entry))
    found = {}
    for path, shared in claims.items():
        names = sorted({claim.name for claim in shared})
        if len(names) < 2:
            continue
        differs = len({claim.content for claim in shared}) > 1
        owner = _owner(prefix, path, shared, packages) if differs else _mode(prefix, path, python)
        if differs or owner:
            found[_MODULES.sub(SITE_PACKAGES, path)] = (owner, *names)
    return dict(sorted(found.items()))


class _Claim(NamedTuple):
    name: str
    entry: _Entry

    @property
    def is_link(self) -> bool:
        return self.entry.get("path_type") == "softlink"

    @property
    def is_generated(self) -> bool:
        return "entry_point" in str(self.entry.get("path_type", ""))

    @property
    def installed(self) -> str:
        """Return the recorded digest of the installed file."""
        return str(self.entry.get("sha256_in_prefix") or self.archived)

    @property
    def archived(self) -> str:
        """Return the recorded digest of the file in the archive."""
        return str(self.entry.get("sha256") or "")

    @property
    def content(self) -> tuple[str, str, str]:
        """Return the values that tell different files apart."""
        # No digest tells where a link leads, and conda records none of the scripts that it generates. In an
        # image, all packages with a file have the installed one's digest.
        origin = self.name if self.is_link or self.is_generated else ""
        return origin, self.installed, self.archived


def _root(python: Interpreter) -> str:
    """Return the conda environment of an interpreter, also of a virtual environment made from it."""
    found = os.path.isdir(os.path.join(python.prefix, "conda-meta"))
    return python.prefix if found else python.base_prefix


def _entries(record: CondaRecord, prefix: str) -> list[_Entry]:
    stem = f"{record.name}-{record.version}-{record.build}"
    try:
        document = json.loads(read_bytes(os.path.join(prefix, "conda-meta", f"{stem}.json")))
        return [entry for entry in document["paths_data"]["paths"] if isinstance(entry["_path"], str)]
    except (OSError, ValueError, LookupError, TypeError):
        return []  # the scan reports it


def _owner(prefix: str, path: str, claims: list[_Claim], packages: Mapping[str, list[_Entry]]) -> str:
    """Return the last package by name whose file is the installed one; empty if that can't be told."""
    file = os.path.join(prefix, *path.split("/"))
    if os.path.islink(file):
        links = [claim for claim in claims if claim.is_link]
        return _owner_of_link(os.readlink(file), path, links, packages)  # noqa: PTH115  a string
    try:
        data = read_bytes(file)
    except OSError:
        return ""
    digest = hashlib.sha256(data).hexdigest()
    owners = [claim for claim in claims if not claim.is_link and claim.installed == digest]
    if len({claim.archived for claim in owners}) > 1:
        owners = [claim for claim in owners if claim.archived in _archived_digests(claim, data, prefix)]
    if not owners or (len(owners) > 1 and all(claim.is_generated for claim in owners)):
        scripts = owners or [claim for claim in claims if claim.is_generated and not claim.installed]
        owners = _with_imported_module(data, path, prefix, scripts, packages)
    return max((claim.name for claim in owners), default="")


def _mode(prefix: str, path: str, python: Interpreter) -> str:
    """Return a text for the mode of a file; empty on Windows, which has none."""
    if python.platform.startswith("win"):
        return ""
    try:
        mode = os.stat(os.path.join(prefix, *path.split("/"))).st_mode
    except OSError:
        return ""
    return EXECUTABLE if mode & 0o100 else NOT_EXECUTABLE


def _archived_digests(claim: _Claim, data: bytes, prefix: str) -> set[str]:
    """Return the digests that an archive may record of the file that was installed with content *data*."""
    placeholder = claim.entry.get("prefix_placeholder")
    if not placeholder:
        return {hashlib.sha256(data).hexdigest()}
    originals = with_placeholder(data, os.fsencode(prefix), os.fsencode(str(placeholder)))
    return {hashlib.sha256(original).hexdigest() for original in originals}


def _owner_of_link(target: str, path: str, links: list[_Claim], packages: Mapping[str, list[_Entry]]) -> str:
    """Return the package of *links* that has a link to *target*; empty if several may have it, or none."""
    digest = hashlib.sha256(os.fsencode(target)).hexdigest()
    owners = [claim.name for claim in links if claim.installed == digest]  # py-rattler's records
    if owners:
        return max(owners)
    if len(links) > 1:
        leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        links = [claim for claim in links if _has_path(packages[claim.name], leads_to)]
    return links[0].name if len(links) == 1 else ""


def _has_path(entries: list[_Entry], path: str) -> bool:
    """Return True if a package has a file, or a folder, of that path."""
    paths = (str(entry.get("original_path") or entry["_path"]) for entry in entries)
    return any(each == path or each.startswith(f"{path}/") for each in paths)


def _with_imported_module(
    data: bytes, path: str, prefix: str, claims: list[_Claim], packages: Mapping[str, list[_Entry]]
) -> list[_Claim]:
    """Return those of *claims* that have the command at *path* from the module that its script imports."""
    match = _IMPORT.search(data)
    if match is None:
        return []
    module, command = match[1].decode(), path.rpartition("/")[2]
    return [claim for claim in claims if module in _modules_of(command, prefix, packages[claim.name])]


def _modules_of(command: str, prefix: str, entries: list[_Entry]) -> Iterator[str]:
    """Yield the modules that the distributions of a package have a command from."""
    point = re.compile(rf"^{re.escape(command)}\s*=\s*([\w.]+)\s*:", re.MULTILINE)
    for entry in entries:
        if entry["_path"].endswith(".dist-info/entry_points.txt"):
            with suppress(OSError):
                text = read_bytes(os.path.join(prefix, *entry["_path"].split("/")))
                yield from point.findall(text.decode("utf-8", "replace"))
