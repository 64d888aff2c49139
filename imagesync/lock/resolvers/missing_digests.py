"""Digests of files for which the index has none."""

from __future__ import annotations

from dataclasses import replace

from imagesync.errors import LockError
from imagesync.indexes.pypi.access import Access
from imagesync.lock.lock import Artifact
from imagesync.store.source import local_path, open_source


def with_digest(artifact: Artifact, access: Access) -> Artifact:
    """Return *artifact* with its digest, computed from the whole file if the index has none.

    Older indexes have no digests, or only MD5. A local file gets its size as well.

    Raises
    ------
    LockError
        The file can't be read.
    """
    import hashlib

    if artifact.digest:
        return _with_size(artifact)
    found, size = hashlib.sha256(), 0
    try:
        with open_source(artifact.url, access=access) as chunks:
            for chunk in chunks:
                found.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise LockError(
            f"The index gives no sha256 for {artifact.filename}, and the file can't be read: {error}",
            hint="Ask whoever runs the index for sha256 digests, or try again.",
        ) from error
    return replace(artifact, digest=f"sha256:{found.hexdigest()}", size=size)


def _with_size(artifact: Artifact) -> Artifact:
    path = local_path(artifact.url)
    if artifact.size is not None or path is None or not path.is_file():
        return artifact
    return replace(artifact, size=path.stat().st_size)
