"""The user's files that an image gets as they are: from the setting ``files`` to paths in the image."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from imagesync.core.stat_cache import MODE, SIZE, Stat, digest_files, stat_of
from imagesync.errors import UsageError
from imagesync.image_layout import CopiedFile, CopiedFiles
from imagesync.scan.environment import Finding, Severity
from imagesync.store.layout import CODE
from imagesync.wheels.sources.source_tree import looks_secret

_SHOWN = 5
# Of no use in an image, and the former holds the whole history.
_SKIPPED = frozenset({".git", "__pycache__"})


def copied_files(
    files: Mapping[Path, str], *, cache: Path
) -> tuple[tuple[CopiedFiles, ...], tuple[Finding, ...]]:
    """Return the files to copy, and findings about those that look like secrets, which stay out.

    Parameters
    ----------
    files
        Files and folders, each with its absolute path in the image. Of a folder all files go in, also those
        that git ignores; links are followed. A file goes into a folder if that ends with a slash.
    cache
        The cache folder of imagesync.

    Raises
    ------
    UsageError
        A path doesn't exist, is an environment or a home folder, or a file that is named looks like a secret.
    WheelError
        A file can't be read.
    """
    found: list[CopiedFiles] = []
    findings: list[Finding] = []
    for source, target in files.items():
        path = Path(os.path.abspath(source))  # noqa: PTH100  links stay: their names are those in the image
        if path.is_file():
            found.append(_copied_file(path, f"{target}{path.name}" if target.endswith("/") else target))
            continue
        left_out: list[str] = []
        found.append(_copied_folder(path, target.rstrip("/"), left_out, cache=cache))
        findings += [_secrets(path, left_out)] if left_out else []
    return tuple(found), tuple(findings)


def _copied_file(path: Path, target: str) -> CopiedFiles:
    if looks_secret(f"{path.parent.name}/{path.name}", path.read_bytes):
        raise UsageError(
            f"{path} looks like a secret, and everybody who has the image could read it.",
            hint="Remove it from `files`, and give it to containers as a mount or a variable.",
        )
    stats = {path.name: stat_of(path.stat())}
    digest = digest_files(path.parent, stats, began=time.time_ns())
    return CopiedFiles(target, (_copied(target, path, stats[path.name]),), digest)


def _copied_folder(path: Path, target: str, left_out: list[str], *, cache: Path) -> CopiedFiles:
    _refuse_folder(path)
    began = time.time_ns()
    stats = dict(_folder_stats(path, left_out))
    copied = sorted(_copied(f"{target}/{name}", path / name, value) for name, value in stats.items())
    return CopiedFiles(target, tuple(copied), digest_files(path, stats, began=began, cache=cache / CODE))


def _copied(target: str, source: Path, value: Stat) -> CopiedFile:
    return CopiedFile(target, str(source), value[SIZE], bool(value[MODE] & stat.S_IXUSR))


def _folder_stats(folder: Path, left_out: list[str]) -> Iterator[tuple[str, Stat]]:
    """Yield the files below *folder*, sorted; names of those that look like secrets go to *left_out*."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED)
        for each in sorted(names):
            path = Path(place, each)
            name = path.relative_to(folder).as_posix()
            if not path.is_file():
                continue  # a socket, or a link that leads nowhere
            if looks_secret(name, path.read_bytes):
                left_out.append(name)
            else:
                yield name, stat_of(path.stat())


def _refuse_folder(path: Path) -> None:
    if not path.is_dir():
        raise UsageError(
            f"{path}, which should go into the image, doesn't exist.", hint="Correct the setting `files`."
        )
    if path in (Path(path.anchor), Path("~").expanduser()):
        raise UsageError(
            f"{path} as a whole can't go into an image.", hint="Name the files in it that you need."
        )


def _secrets(path: Path, names: list[str]) -> Finding:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return Finding(
        Severity.WARNING,
        "file-secret-left-out",
        f"Left out of {path}, because they look like secrets: {', '.join(names[:_SHOWN])}{more}.",
        path=str(path),
        hint="Give secrets to containers as variables or mounts.",
    )
