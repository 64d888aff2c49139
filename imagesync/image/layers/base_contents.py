"""What a build without an engine needs of a base image, from one pass over its layers.

Nothing is unpacked and nothing runs. The result is remembered by the image's digest.

Source: the OCI image specification 1.1, "Image Layer Filesystem Changeset".
"""

from __future__ import annotations

import base64
import gzip
import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import BaseImageError
from imagesync.registry.manifest import LAYER_GZIP, LAYER_ZSTD
from imagesync.store.layout import LAYERS

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.registry.manifest import Descriptor
    from imagesync.registry.oci_image import OCIImage

_FORMAT: Final = 2
_FOLDER_LEVELS: Final = 3
_ACCOUNTS: Final = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
_PRESENT: Final = frozenset(
    {CERTIFICATES, "usr/bin/bash", "bin/bash", "etc/profile.d", "opt/env", "usr/local/bin/bash"}
)
_VENV = re.compile(r"(?:.+/)?lib/python3\.\d+/venv/(?:__init__\.py|scripts/(?:common|posix)/[^/]+)")
_PYTHON = re.compile(r"(?:.+/)?(?:bin/python3\.(\d+)|lib/(?:[^/]+/)?libpython3\.(\d+)\.so\.1\.0)")
_LIBC = re.compile(r"(?:usr/)?lib(?:64)?/(?:[^/]+/)?libc(?:\.so\.6|-2\.\d+\.so)")
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]{0,100}? release version (\d+)\.(\d+)")
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPAQUE, _WHITEOUT = ".wh..wh..opq", ".wh."
_MOST_LINKS: Final = 40  # as Linux follows


@dataclass(frozen=True)
class AccountFile:
    """A file of accounts, such as ``/etc/passwd``, with its owner and mode."""

    content: bytes
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class BaseContents:
    """The facts and files of a base image that an environment is put on.

    Parameters
    ----------
    glibc
        The version of the C library; ``None`` if there is another one, or none.
    python_executable
        The path of ``python3`` on the image's PATH; empty if there is none.
    python_target
        The file that it is in the end.
    python_version
        With its patch level, such as ``3.11.2``; empty if it isn't known.
    venv
        The scripts that the module venv installs, and its source, by the path below ``venv/``.
    accounts
        ``etc/passwd`` and its like, as far as they exist.
    present
        Of the paths that matter to a build, those that exist.
    folders
        The folders of the upper levels.
    """

    glibc: tuple[int, int] | None = None
    python_executable: str = ""
    python_target: str = ""
    python_version: str = ""
    venv: Mapping[str, bytes] = field(default_factory=dict)
    accounts: Mapping[str, AccountFile] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()

    def has_folder(self, path: str) -> bool:
        """Return True if the image has a folder at *path*; deep ones are taken for missing."""
        return path.strip("/") in self.folders or not path.strip("/")

    @property
    def shell(self) -> str:
        """Return the path of bash, else of the shell that every base has."""
        found = sorted(path for path in self.present if path.endswith("/bash"))
        return f"/{found[-1]}" if found else "/bin/sh"


def read_base(image: OCIImage, *, cache: Path, progress: Progress) -> BaseContents:
    """Return the contents of a base image, remembered by its digest, or from its layers.

    Raises
    ------
    BaseImageError
        A layer is damaged.
    ImagesyncError
        The image can't be read where it is.
    """
    path = cache_path(cache / LAYERS, "base contents", image.digest)
    known = read_cache(path, key=_FORMAT)
    if known is not None:
        return _from_json(known)
    scan = _Scan()
    with progress.task("Reading the base image", total=image.size, unit="bytes") as task:
        for layer in image.manifest.layers:
            try:
                scan.add_layer(_uncompressed(image, layer))
            except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise BaseImageError(
                    f"The layer {layer.digest} of the base image can't be read: {error}.",
                    hint="Name another image with --base.",
                ) from error
            task.advance(layer.size)
    found = scan.contents(image.config.container.variables.get("PATH", _DEFAULT_PATH))
    write_cache(path, _to_json(found), key=_FORMAT)
    return found


class _Scan:
    """The state of the file system after some layers, as far as it matters."""

    def __init__(self) -> None:
        self._links: dict[str, str] = {}
        self._folders: set[str] = set()
        self._files: dict[str, Any] = {}

    def add_layer(self, file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                path = posixpath.normpath(member.name).lstrip("/")
                folder, _, name = path.rpartition("/")
                if name == _OPAQUE:
                    self._remove(folder, keep=True)
                elif name.startswith(_WHITEOUT):
                    self._remove(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
                elif member.issym():
                    self._remove(path)
                    self._links[path] = member.linkname
                elif member.isdir():
                    self._links.pop(path, None)
                    if path in _PRESENT:
                        self._files[path] = True
                    if path.count("/") < _FOLDER_LEVELS and not path.startswith("usr/share/"):
                        self._folders.add(path)
                elif member.isfile():
                    self._links.pop(path, None)
                    self._add(path, member, archive)
                elif member.islnk():
                    self._links.pop(path, None)
                    original = posixpath.normpath(member.linkname).lstrip("/")
                    self._files[path] = self._files.get(original, True)

    def _add(self, path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        if path in _ACCOUNTS:
            self._files[path] = AccountFile(_read(archive, member), member.mode, member.uid, member.gid)
        elif _VENV.fullmatch(path):
            self._files[path] = _read(archive, member)
        elif match := _PYTHON.fullmatch(path):
            self._files[path] = _python_version(_read(archive, member), match[1] or match[2])
        elif _LIBC.fullmatch(path):
            found = _GLIBC_VERSION.search(_read(archive, member))
            self._files[path] = (int(found[1]), int(found[2])) if found else None
        elif path in _PRESENT or "/bin/" in f"/{path}":
            self._files[path] = True

    def _remove(self, path: str, *, keep: bool = False) -> None:
        below = f"{path}/" if path else ""
        for known in (self._files, self._links):
            for found in [name for name in known if name.startswith(below) or (name == path and not keep)]:
                del known[found]
        self._folders = {
            name for name in self._folders if not (name.startswith(below) or (name == path and not keep))
        }

    def contents(self, search_path: str) -> BaseContents:
        found = BaseContents(
            glibc=next((v for p, v in self._files.items() if _LIBC.fullmatch(p) and v is not None), None),
            accounts={path: self._files[path] for path in _ACCOUNTS if path in self._files},
            present=frozenset(path for path in _PRESENT if self._resolve(path) in self._files),
            folders=frozenset(
                {*self._folders, *(path for path in self._links if path.count("/") < _FOLDER_LEVELS)}
            ),
        )
        for folder in search_path.split(":"):
            executable = posixpath.join(folder, "python3")
            target = self._resolve(executable.lstrip("/"))
            if folder.startswith("/") and target in self._files:
                return replace(
                    found,
                    python_executable=executable,
                    python_target=f"/{target}",
                    python_version=self._version(target),
                    venv=self._venv(target),
                )
        return found

    def _version(self, target: str) -> str:
        """Return the version in an interpreter, or in the library that most of its code is in."""
        known = self._files[target]
        if isinstance(known, str) and known:
            return known
        prefix, minor = _prefix(target), posixpath.basename(target)
        library = re.compile(rf"{re.escape(prefix)}/?lib/(?:[^/]+/)?lib{re.escape(minor)}\.so\.1\.0")
        return next((v for p, v in self._files.items() if library.fullmatch(p) and v), "")

    def _venv(self, target: str) -> dict[str, bytes]:
        folder = posixpath.join(_prefix(target), "lib", posixpath.basename(target), "venv") + "/"
        return {
            path.removeprefix(folder): content
            for path, content in self._files.items()
            if path.startswith(folder) and isinstance(content, bytes)
        }

    def _resolve(self, path: str) -> str:
        """Return the path of the file that *path* leads to."""
        for _ in range(_MOST_LINKS):
            names = path.split("/")
            for count in range(1, len(names) + 1):
                parent = "/".join(names[:count])
                if (link := self._links.get(parent)) is not None:
                    target = posixpath.join("/", posixpath.dirname(parent), link)
                    path = posixpath.normpath(posixpath.join(target, *names[count:])).lstrip("/")
                    break
            else:
                return path
        return path


def _prefix(target: str) -> str:
    return posixpath.dirname(posixpath.dirname(target))


def _python_version(content: bytes, minor: str) -> str:
    """Return the version that an interpreter or its library reports; empty if it isn't found.

    >>> _python_version(bytes(1) + b"3.11.2" + bytes(1), "11")
    '3.11.2'
    """
    found = re.search(rb"\x00(3\.%b\.\d+(?:(?:a|b|rc)\d+)?)\+?\x00" % minor.encode(), content)
    return found[1].decode() if found else ""


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file is not None else b""


class _Chunks(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  a writable buffer
        while not self._rest:
            piece = next(self._chunks, None)
            if piece is None:
                return 0
            self._rest = piece
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _uncompressed(image: OCIImage, layer: Descriptor) -> BinaryIO:
    """Return the archive of a layer; members and frames that follow one another are one stream."""
    file = io.BufferedReader(_Chunks(iter(image.layers.read(layer))), 1 << 20)
    if layer.media_type == LAYER_GZIP:
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if layer.media_type == LAYER_ZSTD:
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


def _to_json(contents: BaseContents) -> dict[str, Any]:
    found = asdict(contents)
    found["venv"] = {path: _encoded(content) for path, content in contents.venv.items()}
    found["accounts"] = {
        path: {**asdict(file), "content": _encoded(file.content)} for path, file in contents.accounts.items()
    }
    found["present"] = sorted(contents.present)
    found["folders"] = sorted(contents.folders)
    return found


def _from_json(known: Mapping[str, Any]) -> BaseContents:
    glibc = known["glibc"]
    return BaseContents(
        **{
            **known,
            "glibc": None if glibc is None else (glibc[0], glibc[1]),
            "venv": {path: base64.b64decode(text) for path, text in known["venv"].items()},
            "accounts": {
                path: AccountFile(**{**file, "content": base64.b64decode(file["content"])})
                for path, file in known["accounts"].items()
            },
            "present": frozenset(known["present"]),
            "folders": frozenset(known["folders"]),
        }
    )


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
