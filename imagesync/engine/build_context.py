"""The inputs of a build: its options, its context as a tar stream, and strings in a Dockerfile."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from imagesync.errors import RenderError

Network = Literal["none", "default"]
_BLOCK = 1 << 20
_LABEL_LINE = 2000
# BuildKit takes lines of up to 64 KiB; between two plain characters a string may be continued on the next.
_PLAIN_RUN = re.compile(rf".{{{_LABEL_LINE},}}?[A-Za-z0-9](?=[A-Za-z0-9])", re.DOTALL)


@dataclass(frozen=True)
class ContextFile:
    """One file of a build context.

    Parameters
    ----------
    path
        Relative, with forward slashes.
    content
        Its bytes, or the file that has them.
    size
        In bytes.
    mode
        ``0o644`` or ``0o755``.
    sha256
        Of a file that may change before it is read, in hexadecimal; empty for others.
    """

    path: str
    content: bytes | Path = field(repr=False)
    size: int
    mode: int = 0o644
    sha256: str = ""

    @classmethod
    def from_text(cls, path: str, text: str) -> ContextFile:
        """Return a file with the given text."""
        content = text.encode()
        return cls(path, content, len(content))

    @classmethod
    def from_file(cls, path: str, source: Path, *, mode: int = 0o644) -> ContextFile:
        """Return a file with the content of *source*.

        Raises
        ------
        RenderError
            There is no such file.
        """
        try:
            return cls(path, source, source.stat().st_size, mode)
        except OSError as error:
            raise RenderError(f"can't read {source} for the build context: {error.strerror}") from error


@dataclass(frozen=True)
class BuildRequest:
    """The options of a build.

    Parameters
    ----------
    network
        ``none``: no step reaches a network; ``default``: the engine's bridge, with the proxies of Docker's
        ``config.json``.
    platform
        Of the image, such as ``linux/arm64``.
    build_args
        Values of the Dockerfile's ``ARG``; never secrets, because they end up in the history.
    labels
        Added to the image.
    target
        The stage to build; ``None`` is the last.
    dockerfile
        Its path in the context.
    no_cache
        Whether every step runs, also those that the engine has cached.
    """

    network: Network
    platform: str
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    dockerfile: str = "Dockerfile"
    no_cache: bool = False


def dockerfile_quote(value: object) -> str:
    r"""Return *value* as a string of a Dockerfile's ``LABEL`` or ``ENV``, in which nothing is expanded.

    >>> print(dockerfile_quote('{"price": "$5"}'))
    "{\"price\": \"\$5\"}"
    """
    text = str(value)
    if re.search(r"[\r\n\0]", text):
        raise RenderError(f"a value of a Dockerfile can't have line breaks in it: {text[:60]!r}")
    quoted = re.sub(r'(["\\$])', r"\\\1", text)
    return '"' + _PLAIN_RUN.sub(lambda run: run.group() + "\\\n", quoted) + '"'


def stream_files(files: Sequence[ContextFile]) -> Iterator[bytes]:
    """Yield files as a tar archive, with their folders, in pieces of up to 1 MiB.

    The same files give the same bytes. The first one has to be the Dockerfile: engines tell an archive from a
    lone Dockerfile by its plain header.

    Raises
    ------
    RenderError
        A file can't be read, or has changed.
    """
    from imagesync.core.archive_members import tar_member

    folders: set[PurePosixPath] = set()
    for file in files:
        for parent in reversed(PurePosixPath(file.path).parents[:-1]):
            if parent not in folders:
                folders.add(parent)
                yield tar_member(str(parent), kind=tarfile.DIRTYPE, mode=0o755).tobuf(tarfile.PAX_FORMAT)
        yield tar_member(file.path, mode=file.mode, size=file.size).tobuf(tarfile.PAX_FORMAT)
        yield from file_content(file)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def file_content(file: ContextFile) -> Iterator[bytes]:
    """Yield the bytes of *file* in pieces.

    Raises
    ------
    RenderError
        It can't be read, or isn't what it was any more.
    """
    if isinstance(file.content, bytes):
        yield file.content
        return
    remaining = file.size
    found = hashlib.sha256()
    try:
        with file.content.open("rb") as source:
            while remaining and (piece := source.read(min(_BLOCK, remaining))):
                remaining -= len(piece)
                if file.sha256:
                    found.update(piece)
                yield piece
    except OSError as error:
        raise RenderError(f"can't read {file.content} for the build context: {error.strerror}") from error
    if remaining and not file.sha256:
        raise RenderError(
            f"{file.content} became {remaining} bytes shorter while it was read",
            hint="The cache may have been cleared. Run the command again.",
        )
    if file.sha256 and found.hexdigest() != file.sha256:
        raise changed_file(file.content)


def changed_file(path: Path) -> RenderError:
    """Return the error for a file that isn't what it was when the environment hash was made of it."""
    return RenderError(f"{path} changed while the image was made of it.", hint="Run the command again.")
