"""Source archives whose build scripts a test writes."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping


def make_source_archive(name: str, version: str, files: Mapping[str, str]) -> tuple[str, bytes]:
    """Return the file name and the bytes of an sdist of *files*; the same arguments give the same bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    members = {"PKG-INFO": f"Metadata-Version: 1.1\nName: {name}\nVersion: {version}\n", **files}
    stream = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for path, text in members.items():
            member = tarfile.TarInfo(f"{stem}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{stem}.tar.gz", stream.getvalue()
