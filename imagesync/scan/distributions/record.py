# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH118
"""RECORD: the list of a distribution's installed files (PEP 376, PEP 627)."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator

from imagesync.core.files import read_bytes


def read_record(metadata_path: str) -> Iterator[tuple[str, str, int | None]]:
    """Yield path, digest (``sha256=<base64>``, or empty) and size in bytes of each file listed.

    Paths are as they are written: relative to the folder that holds *metadata_path*, with ``/``.
    A RECORD that can't be read lists nothing, and a path that can't exist isn't listed.
    """
    try:
        text = read_bytes(os.path.join(metadata_path, "RECORD")).decode("utf-8", "surrogateescape")
        rows = list(csv.reader(text.splitlines()))
    except (OSError, csv.Error):
        return
    for row in rows:
        if row and row[0] and "\0" not in row[0]:
            digest = row[1] if len(row) > 1 else ""
            size = int(row[2]) if len(row) > 2 and row[2].isdecimal() else None
            yield row[0].replace("\\", "/"), digest, size
