"""Read and write files, atomically; parse TOML."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from imagesync.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_HINT = "Name a file in a folder that you can write to."
_CHUNK = 1 << 20


def read_bytes(path: str) -> bytes:
    """Return a file's content; faster than ``open`` for the many small files of an environment."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  a Path costs more than reading a small file
        return file.readall()


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of *file* in chunks."""
    while chunk := file.read(_CHUNK):
        yield chunk


def open_entry(path: Path) -> BinaryIO:
    """Open a file of a cache folder to read; anything else in its place is removed, and counts as missing.

    Raises
    ------
    OSError
        It isn't there, or can't be read.
    """
    try:
        # A named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | _NO_WAITING)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        make_way(path)
    except OSError:
        if not make_way(path):
            raise
    raise FileNotFoundError(errno.ENOENT, "there was no file", os.fspath(path))


def make_way(path: Path) -> bool:
    """Remove what is at *path* in a cache folder and is no file: a folder, a link, a named pipe.

    Returns
    -------
    bool
        Whether something was removed.
    """
    try:
        if stat.S_ISREG(mode := path.lstat().st_mode):
            return False
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    return True


@contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of *path* when the block ends without an error.

    Parameters
    ----------
    mode
        The new file's permissions; by default only the user can read it.

    Raises
    ------
    OSError
        The folder isn't there, is full, or can't be written to; *path* is as it was.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class HashedFile:
    """A new file, hashed as it is written.

    As a context manager it leaves nothing behind unless it was moved to its place.

    Parameters
    ----------
    path
        Where it is written.
    errors
        Returns a context manager that raises an ``OSError`` as the caller's own error.
    """

    def __init__(self, path: Path, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._path = path
        self._errors = errors
        self._hash = hashlib.sha256()
        self.size = 0
        with errors():
            self._file: IO[bytes] = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    @property
    def digest(self) -> str:
        """Return the digest of what has been written, ``sha256:<hex>``."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, chunk: bytes) -> None:
        """Append *chunk*."""
        with self._errors():
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Discard the content, and start again."""
        with self._errors():
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def discard(self) -> None:
        """Remove the file, unless it was moved to its place."""
        # Closing writes what is buffered, and a full disk refuses that too.
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write *text* as UTF-8 to *path*, a file that the user named.

    Raises
    ------
    UsageError
        The folder isn't there, or can't be written to.
    """
    _write(path, lambda file: file.write(text.encode()))


def copy_file(source: Path, path: Path) -> None:
    """Copy the file *source* to *path*, whose folder is made where it is missing; see :func:`write_text`."""

    def copy(file: BinaryIO) -> None:
        with source.open("rb") as content:
            shutil.copyfileobj(content, file)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't make the folder {path.parent}: {error.strerror}", hint=_HINT) from error
    _write(path, copy)


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    try:
        # A new file gets the mode that the user's other files have.
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        with replacing(path, mode=mode) as file:
            write(file)
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}", hint=_HINT) from error


def _umask() -> int:
    # The system tells the mask only while setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def parse_toml(text: str) -> dict[str, Any]:
    """Return the document in *text*; a ``ValueError`` names line and column of an error."""
    # The same parser under two names (PEP 680).
    parser = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    document: dict[str, Any] = parser.loads(text)
    return document


def disk_hint(output: str) -> str | None:
    """Return the hint for a program that ran out of space, by its *output*; ``None`` for one that didn't."""
    if not any(sign in output for sign in ("No space left on device", "Disk quota exceeded")):
        return None
    return (
        f"Free space for temporary files ({tempfile.gettempdir()}; TMPDIR names another folder), and in the "
        "caches: imagesync cache prune; uv cache prune"
    )
