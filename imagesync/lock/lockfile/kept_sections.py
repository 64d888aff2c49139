"""The sections of a ``conda-lock.yml`` for other platforms, which stay when it is written for one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.platforms import find_platform
from imagesync.errors import LockError, UsageError
from imagesync.lock.conda.conda_lock_file import parse_file
from imagesync.lock.lockfile.custom_metadata import CustomMetadata
from imagesync.lock.lockfile.write import Bundle, public_channels

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile

_PLATFORM = re.compile(r"^ *platform: (\S+)$", re.MULTILINE)


def kept_sections(path: Path, bundles: Sequence[Bundle]) -> Lockfile | None:
    """Return the sections of the lock file at *path* for platforms that *bundles* aren't for.

    Only sections that imagesync wrote are kept, and those that another tool has changed aren't.

    Returns
    -------
    Lockfile or None
        ``None`` if there are none, or no lock file.

    Raises
    ------
    LockError
        A section can't stay: it is of other channels, or a local wheel that it names gets another content.
    """
    written = {bundle.lock.target.platform.subdir for bundle in bundles}
    if not (path.is_file() and _has_others(path, written)):
        return None
    try:
        lockfile = parse_file(path, in_order=True)
        kept = tuple(_sections(lockfile, written))
    except (UsageError, ValueError):
        return None  # it is replaced, as it was before
    if not kept:
        return None
    lockfile.package = [entry for entry in lockfile.package if entry.platform in kept]
    lockfile.metadata.platforms = list(kept)
    if reason := _obstacle(lockfile, bundles):
        names = [str(find_platform(subdir) or subdir) for subdir in kept]
        wanted = dict.fromkeys((*(str(bundle.lock.target.platform) for bundle in bundles), *names))
        raise LockError(
            f"{path} has a section for {' and '.join(names)}, which can't stay beside the new one: {reason}.",
            hint="Lock for all of them at once: imagesync lock -o "
            f"{path} {' '.join(f'--platform {name}' for name in wanted)}; or remove the file.",
        )
    return lockfile


def _has_others(path: Path, written: Collection[str]) -> bool:
    """Return True if a package is for another platform; to parse a file of one takes a second."""
    try:
        found = _PLATFORM.findall(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return False  # it is replaced, or the error of writing says what is wrong
    return not set(found) <= set(written)


def _sections(lockfile: Lockfile, written: Collection[str]) -> Iterator[str]:
    for subdir in sorted(set(lockfile.metadata.platforms) - set(written)):
        head = CustomMetadata(lockfile.metadata.custom_metadata, subdir).head
        digest = lockfile.metadata.content_hash.get(subdir)
        # Facts that aren't divided by platform are those of one section.
        if digest and head.get("digest") == f"sha256:{digest}":
            yield subdir


def _obstacle(kept: Lockfile, bundles: Sequence[Bundle]) -> str:
    """Return why the sections can't stay; empty if they can."""
    before = [channel.url for channel in kept.metadata.channels]
    if any(public_channels(bundle.lock) != before for bundle in bundles):
        return f"it is locked from the channels {', '.join(before) or 'of no environment'}"
    files: Mapping[str, str] = {
        path: file.digest for bundle in bundles for path, file in bundle.files.items()
    }
    for entry in kept.package:
        digest = files.get(entry.url.removeprefix("file:"))
        if digest is not None and digest != f"sha256:{entry.hash.sha256}":
            return f"{entry.url.removeprefix('file:')} of {entry.name} has changed since"
    return ""
