# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH112, PTH114, PTH118
"""Files that several conda packages have with different content, and whose file is the installed one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from imagesync.core.files import read_bytes
from imagesync.scan.environment import CondaRecord, Interpreter

SITE_PACKAGES = "site-packages/"
"""The prefix of module paths for all platforms and versions of Python."""
_Entry = Mapping[str, Any]
_IMPORT = re.compile(rb"^from ([\w.]+) import ", re.MULTILINE)
_MODULES = re.compile(r"(lib/python3\.\d+t?|Lib)/site-packages/")


def shared_files(records: Iterable[CondaRecord], python: Interpreter) -> Mapping[str, tuple[str, ...]]:
    """Return the packages that have each file that several of *records* have with different content.

    conda and micromamba keep the file that is linked last, and py-rattler puts the others aside.

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
        is the package whose file is installed, or empty; all packages that have the file follow, sorted.
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
        if len(shared) > 1 and len({claim.content for claim in shared}) > 1:
            owner = _owner(prefix, path, shared, packages)
            found[_MODULES.sub(SITE_PACKAGES, path)] = (owner, *sorted({claim.name for claim in shared}))
    return dict(sorted(found.items()))


class _Claim(NamedTuple):
    name: str
    entry: _Entry

    @property
    def is_link(self) -> bool:
        return self.entry.get("path_type") == "softlink"

    @property
    def content(self) -> tuple[str, bool]:
        sha256 = str(self.entry.get("sha256_in_prefix") or self.entry.get("sha256") or "")
        # conda records no digests of the scripts that it generates.
        is_generated = "entry_point" in str(self.entry.get("path_type", ""))
        return sha256 or (f"of {self.name}" if is_generated else ""), self.is_link


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
    """Return the last package by name whose file is the installed one, or empty."""
    file = os.path.join(prefix, *path.split("/"))
    if os.path.islink(file):
        return max((claim.name for claim in claims if claim.is_link), default="")
    try:
        data = read_bytes(file)
    except OSError:
        return ""
    content = (hashlib.sha256(data).hexdigest(), False)
    owners = [claim.name for claim in claims if claim.content == content]
    if not owners and (match := _IMPORT.search(data)) is not None:
        command = path.rpartition("/")[2]
        owners = [
            claim.name
            for claim in claims
            if claim.content == (f"of {claim.name}", False)
            and match[1].decode() in _modules_of(command, prefix, packages[claim.name])
        ]
    return max(owners, default="")


def _modules_of(command: str, prefix: str, entries: list[_Entry]) -> Iterator[str]:
    """Yield the modules that the distributions of a package have a command from."""
    point = re.compile(rf"^{re.escape(command)}\s*=\s*([\w.]+)\s*:", re.MULTILINE)
    for entry in entries:
        if entry["_path"].endswith(".dist-info/entry_points.txt"):
            with suppress(OSError):
                text = read_bytes(os.path.join(prefix, *entry["_path"].split("/")))
                yield from point.findall(text.decode("utf-8", "replace"))
