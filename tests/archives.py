"""Damaged zip archives."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping


def damaged_zip(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive of *files* whose directory is whole and whose compressed contents are not."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        members = archive.infolist()
    data = bytearray(output.getvalue())
    for member in members:
        # Behind lzma's four bytes of version and size.
        start = member.header_offset + 30 + len(member.filename) + (4 if method == zipfile.ZIP_LZMA else 0)
        data[start : start + 9] = b"\xff" * 9
    return bytes(data)
