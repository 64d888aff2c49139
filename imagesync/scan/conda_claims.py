# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH112, PTH118, PTH119, PTH208
"""Which metadata folders conda's own records claim (``conda-meta/*.json``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from imagesync.scan.environment import Package
from imagesync.scan.metadata import read_bytes


def mark_conda(packages: Sequence[Package], prefix: str) -> list[Package]:
    """Return *packages*, those that conda's records in *prefix* claim with the manager ``conda``.

    conda writes ``conda`` into INSTALLER of most packages that it builds, which the reader of the
    metadata has seen already; the records are opened only for the packages that say otherwise.
    """
    folder = os.path.join(prefix, "conda-meta")
    if not os.path.isdir(folder) or all(package.manager == "conda" for package in packages):
        return list(packages)
    claimed = _claimed(folder)
    return [
        replace(package, manager="conda")
        if os.path.basename(package.metadata_path) in claimed and _inside(package.location, prefix)
        else package
        for package in packages
    ]


def _claimed(folder: str) -> frozenset[str]:
    """Return the names of the metadata folders and files that the records list.

    The records of an environment are tens of megabytes of JSON; searching the bytes for the few
    entries that matter takes a fraction of parsing them.
    """
    claimed = set()
    for name in os.listdir(folder):
        if not name.endswith(".json"):
            continue
        try:
            data = read_bytes(os.path.join(folder, name))
        except OSError:
            continue  # unreadable records leave the packages to pip, and the conda part will say so
        for ending in (b".dist-info/METADATA", b".egg-info"):
            position = data.find(ending)
            while position >= 0:
                start = max(data.rfind(b"/", 0, position), data.rfind(b'"', 0, position)) + 1
                stop = position + len(ending.partition(b"/")[0])
                claimed.add(data[start:stop].decode("utf-8", "replace"))
                position = data.find(ending, position + 1)
    return frozenset(claimed)


def _inside(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))
