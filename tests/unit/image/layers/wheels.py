"""Wheels by hand for tests of layers."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from imagesync.image.layers.wheel_entries import record_row
from imagesync.store.store import Store, StoredFile

WHEEL = b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(
    folder: Path,
    name: str,
    files: Mapping[str, bytes],
    *,
    version: str = "1.0",
    record: str | None = None,
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a pure wheel of *files*, with metadata and a RECORD of its own; scripts are executable."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    members = {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": WHEEL}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    path = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for member, content in members.items():
            header = zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0))
            header.external_attr = (0o100755 if member.endswith(".sh") else 0o100664) << 16
            archive.writestr(header, content, compression)
            writer.writerow([member, *record_row(content)])
        writer.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(f"{info}/RECORD", text.getvalue() if record is None else record)
    return path


def stored_wheel(store: Store, path: Path) -> StoredFile:
    """Return a wheel in the store."""
    return store.add_file(path)
