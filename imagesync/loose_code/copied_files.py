"""The user's files that an image gets as they are: from the setting ``files`` to paths in the image."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

from imagesync.core.stat_cache import MODE, SIZE, Stat, digest_each, stat_of
from imagesync.core.text import first_of
from imagesync.errors import UsageError, WheelError
from imagesync.image_layout import CopiedFile, CopiedFiles, is_reserved
from imagesync.scan.environment import Finding, Severity
from imagesync.store.layout import CODE
from imagesync.wheels.secret_files import in_secret_folder, looks_secret
from imagesync.wheels.sources.source_tree import is_environment

_SHOWN: Final = 5
# Of no use in an image, and the former holds the whole history.
_SKIPPED: Final = frozenset({".git", "__pycache__"})
_SECRET: Final = "they look like secrets"  # noqa: S105
_ENVIRONMENT: Final = "they are environments of Python"
_CIRCLE: Final = "they are links to a home folder, or to one that they lie in"
_NO_FILE: Final = "they are no files, or links that lead nowhere"
_EMPTY: Final = "there is no file in it that can go into an image"
# Of links: to nothing, through a file, or in a circle.
_LEADS_NOWHERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

_LeftOut = defaultdict[str, list[str]]


def copied_files(
    files: Mapping[Path, str], *, cache: Path
) -> tuple[tuple[CopiedFiles, ...], tuple[Finding, ...]]:
    """Return the files to copy, and findings about those that stay out, such as secrets.

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
        A path doesn't exist, is an environment or a home folder, or a path that is named looks like a secret.
    WheelError
        A file or folder can't be read.
    """
    found: list[CopiedFiles] = []
    findings: list[Finding] = []
    for source, target in files.items():
        path = Path(os.path.abspath(source))  # noqa: PTH100  links stay: their names are those in the image
        place = PurePosixPath("/" + target.lstrip("/"))
        if path.is_file():
            copied = _copied_file(path, str(place / path.name if target.endswith("/") else place))
            _refuse_reserved(path, copied)
            found.append(copied)
            continue
        left_out: _LeftOut = defaultdict(list)
        copied = _copied_folder(path, str(place), left_out, cache=cache)
        _refuse_reserved(path, copied)
        findings += (_left_out(path, reason, names) for reason, names in sorted(left_out.items()))
        if copied.files:
            found.append(copied)
        else:
            findings.append(_left_out(path, _EMPTY, []))
    return tuple(found), tuple(findings)


def _copied_file(path: Path, target: str) -> CopiedFiles:
    if _looks_secret(path, path.resolve()):
        raise _secret(path)
    stats = {path.name: stat_of(path.stat())}
    # The cache is keyed by folder; a single file is read each time.
    _, each = digest_each(path.parent, stats, began=time.time_ns())
    copied = _copied(target, path, stats[path.name], each[path.name])
    # Its name on this machine doesn't matter.
    content = f"{'executable' if copied.executable else 'file'}\0{target}\0{copied.sha256}"
    return CopiedFiles(target, (copied,), f"sha256:{sha256(os.fsencode(content)).hexdigest()}")


def _copied_folder(path: Path, target: str, left_out: _LeftOut, *, cache: Path) -> CopiedFiles:
    _refuse_folder(path)
    began = time.time_ns()
    stats = dict(sorted(_folder_stats(path, left_out)))
    digest, each = digest_each(path, stats, began=began, cache=cache / CODE)
    copied = (_copied(f"{target}/{name}", path / name, value, each[name]) for name, value in stats.items())
    return CopiedFiles(target, tuple(sorted(copied)), digest)


def _copied(target: str, source: Path, value: Stat, digest: str) -> CopiedFile:
    return CopiedFile(target, str(source), value[SIZE], bool(value[MODE] & stat.S_IXUSR), digest)


def _folder_stats(folder: Path, left_out: _LeftOut) -> Iterator[tuple[str, Stat]]:
    """Yield the files below *folder* by their names relative to it; those that stay out go to *left_out*."""
    # Each folder with the real paths of itself and of those above it.
    folders: list[tuple[str, tuple[Path, ...]]] = [("", (folder.resolve(),))]
    home = Path("~").expanduser().resolve()
    while folders:
        place, above = folders.pop()
        for each in _listed(folder / place):
            if each in _SKIPPED:
                continue
            name = f"{place}{each}"
            path = folder / name
            status = _status(path)
            real = path.resolve() if path.is_symlink() else above[-1] / each
            if status is None or not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
                left_out[_NO_FILE].append(name)
            elif stat.S_ISREG(status.st_mode):
                if _looks_secret(path, real):
                    left_out[_SECRET].append(name)
                else:
                    yield name, stat_of(status)
            elif real in above or above[0].is_relative_to(real) or real == home:
                left_out[_CIRCLE].append(name)
            elif in_secret_folder(path.as_posix()) or in_secret_folder(real.as_posix()):
                left_out[_SECRET].append(name)
            elif is_environment(str(path)):
                left_out[_ENVIRONMENT].append(name)
            else:
                folders.append((f"{name}/", (*above, real)))


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names alone
    except OSError as error:
        raise _unreadable(folder, error) from error


def _status(path: Path) -> os.stat_result | None:
    """Return the status of what is at *path*, or ``None`` for a link that leads nowhere."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            return None
        raise _unreadable(path, error) from error


def _looks_secret(path: Path, real: Path) -> bool:
    """Return True if the file at *path*, or what it links to, looks like a secret."""
    read = partial(_read, path)
    return looks_secret(path.as_posix(), read) or (real != path and looks_secret(real.as_posix(), read))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> WheelError:
    return WheelError(
        f"{path}, which should go into the image, can't be read: {error.strerror}.",
        hint="Make it readable for yourself, or name the files beside it in the setting `files`.",
    )


def _secret(path: Path) -> UsageError:
    return UsageError(
        f"{path} looks like a secret, and everybody who has the image could read it.",
        hint="Remove it from `files`, and give it to containers as a mount or a variable.",
    )


def _refuse_reserved(path: Path, copied: CopiedFiles) -> None:
    for file in copied.files:
        if is_reserved(file.path):
            raise UsageError(
                f"{path} would go to {file.path}, where the environment or the kernel has its files.",
                hint="Name another folder of the image in `files`.",
            )


def _refuse_folder(path: Path) -> None:
    if not path.is_dir():
        raise UsageError(
            f"{path}, which should go into the image, doesn't exist.", hint="Correct the setting `files`."
        )
    real = path.resolve()
    if any(place in (Path(path.anchor), Path("~").expanduser().resolve()) for place in (path, real)):
        raise UsageError(
            f"{path} as a whole can't go into an image.", hint="Name the files in it that you need."
        )
    if in_secret_folder(path.as_posix()) or in_secret_folder(real.as_posix()):
        raise _secret(path)
    if is_environment(str(path)):
        raise UsageError(
            f"{path} is an environment of Python, and the image has its own in /opt/env.",
            hint="Remove it from `files`; `imagesync build --prefix` makes an image of another environment.",
        )


def _left_out(path: Path, reason: str, names: list[str]) -> Finding:
    is_secret = reason == _SECRET
    return Finding(
        Severity.WARNING,
        "file-secret-left-out" if is_secret else "file-left-out",
        f"Left out of {path}, because {reason}: {first_of(names, _SHOWN)}."
        if names
        else f"{path} stays out of the image: {reason}.",
        path=str(path),
        hint="Give secrets to containers as variables or mounts."
        if is_secret
        else "Name what the image needs in the setting `files`.",
    )
