# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH112, PTH114, PTH118
"""Files that several conda packages have with different content, and whose file is the installed one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from imagesync.core.files import read_bytes
from imagesync.scan.environment import CondaRecord, Interpreter

SITE_PACKAGES = "site-packages/"
"""What paths of modules begin with, whatever the platform and the version of Python."""
_MODULES = re.compile(r"(lib/python3\.\d+t?|Lib)/site-packages/")


def shared_files(records: Iterable[CondaRecord], python: Interpreter) -> Mapping[str, tuple[str, ...]]:
    """Return the packages that have each file that several of *records* have with different content.

    conda and micromamba keep the file that is linked last, and py-rattler puts the others aside.

    Parameters
    ----------
    python
        The interpreter of their environment.

    Returns
    -------
    Mapping
        Path relative to the prefix, or to site-packages if it begins with that, to conda names. The first
        is the package whose file is installed, or empty; all packages that have the file follow, sorted.
    """
    prefix = _root(python)
    claims: defaultdict[str, list[_Claim]] = defaultdict(list)
    for record in records:
        for entry in _entries(record, prefix):
            path = str(entry.get("original_path") or entry["_path"])
            if not path.endswith(".pyc"):  # it goes with its module
                claims[path].append((record.name, entry))
    found = {}
    for path, shared in claims.items():
        if len(shared) > 1 and len({_content(entry) for _, entry in shared}) > 1:
            owner = _owner(os.path.join(prefix, *path.split("/")), shared)
            found[_MODULES.sub(SITE_PACKAGES, path)] = (owner, *sorted({name for name, _ in shared}))
    return dict(sorted(found.items()))


_Claim = tuple[str, Mapping[str, Any]]


def _root(python: Interpreter) -> str:
    """Return the conda environment of an interpreter, also of a virtual environment made from it."""
    found = os.path.isdir(os.path.join(python.prefix, "conda-meta"))
    return python.prefix if found else python.base_prefix


def _entries(record: CondaRecord, prefix: str) -> list[Mapping[str, Any]]:
    stem = f"{record.name}-{record.version}-{record.build}"
    try:
        document = json.loads(read_bytes(os.path.join(prefix, "conda-meta", f"{stem}.json")))
        return [entry for entry in document["paths_data"]["paths"] if isinstance(entry["_path"], str)]
    except (OSError, ValueError, LookupError, TypeError):
        return []  # the scan reports it


def _content(entry: Mapping[str, Any]) -> tuple[str, bool]:
    return str(entry.get("sha256_in_prefix") or entry.get("sha256") or ""), _is_link(entry)


def _is_link(entry: Mapping[str, Any]) -> bool:
    return entry.get("path_type") == "softlink"


def _owner(file: str, claims: list[_Claim]) -> str:
    """Return the last package by name whose entry describes the installed file."""
    if os.path.islink(file):
        owners = [name for name, entry in claims if _is_link(entry)]
    else:
        try:
            sha256 = hashlib.sha256(read_bytes(file)).hexdigest()
        except OSError:
            return ""
        owners = [name for name, entry in claims if _content(entry) == (sha256, False)]
    return max(owners, default="")
