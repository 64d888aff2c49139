"""What a build without an engine needs of a base image, from one pass over its layers.

Nothing is unpacked and nothing runs. The result is remembered by the image's digest.

Source: the OCI image specification 1.1, "Image Layer Filesystem Changeset".
"""

from __future__ import annotations

import base64
import posixpath
import re
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import BaseImageError
from imagesync.image.layers.entries import FolderAttributes
from imagesync.image.layers.folder_tree import FolderTree
from imagesync.image.layers.layer_stream import damage_of, layer_members
from imagesync.image_layout import PREFIX
from imagesync.registry.transfer import CountedBlobs
from imagesync.store.layout import LAYERS

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.registry.oci_image import OCIImage

_FORMAT: Final = 5
_ACCOUNTS: Final = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
_ACCOUNT_NAMES: Final = frozenset(posixpath.basename(path) for path in _ACCOUNTS)
_MOST_ACCOUNTS, _MOST_SCRIPT, _MOST_BINARY = 1 << 20, 1 << 20, 100 << 20
_MOST_PATHS: Final = 2_000_000
_ENVIRONMENT: Final = PREFIX.relative_to("/").as_posix()
CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
_PRESENT: Final = frozenset({CERTIFICATES, "usr/bin/bash", "bin/bash", "usr/local/bin/bash"})
_VENV = re.compile(r"(?:.+/)?lib/python3\.\d+/venv/(?:__init__\.py|scripts/(?:common|posix)/[^/]+)")
_PYTHON = re.compile(r"(?:.+/)?(?:bin/python3\.(\d+)|lib/(?:[^/]+/)?libpython3\.(\d+)\.so\.1\.0)")
_LINKER = re.compile(r"etc/ld\.so\.conf(?:\.d/[^/]+)?")
_LIBC = re.compile(r"(?:usr/)?lib(?:64)?/(?:[^/]+/)?libc(?:\.so\.6|-2\.\d+\.so)")
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]{0,100}? release version (\d+)\.(\d+)")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPAQUE, _WHITEOUT = ".wh..wh..opq", ".wh."


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
    tree
        Its folders, links and files.
    linker
        The configuration files of the dynamic linker, by path.
    """

    glibc: tuple[int, int] | None = None
    python_executable: str = ""
    python_target: str = ""
    python_version: str = ""
    venv: Mapping[str, bytes] = field(default_factory=dict)
    accounts: Mapping[str, AccountFile] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    tree: FolderTree = field(default_factory=FolderTree)
    linker: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def shell(self) -> str:
        """Return the path of bash, else of the shell that every base has."""
        found = sorted(path for path in self.present if path.endswith("/bash"))
        return f"/{found[-1]}" if found else "/bin/sh"


def read_base(image: OCIImage, *, cache: Path, progress: Progress, digest: str = "") -> BaseContents:
    """Return the contents of a base image, remembered by its digest, or from its layers.

    Parameters
    ----------
    digest
        By which they are remembered, if *image* has the layers of the base image in another form.

    Raises
    ------
    BaseImageError
        A layer is damaged.
    ImagesyncError
        The image can't be read where it is.
    """
    digest = digest or image.digest
    known = recall_base(digest, cache)
    if known is not None:
        return _from_json(known)
    scan = _Scan()
    with progress.task("Reading the base image", total=image.size, unit="bytes") as task:
        watched = replace(image, layers=CountedBlobs(image.layers, task.advance))
        for layer in image.manifest.layers:
            try:
                scan.add_layer(layer_members(watched, layer))
            except damage_of(layer) as error:  # noqa: PERF203 (an attempt is a layer)
                raise BaseImageError(
                    f"The layer {layer.digest} of the base image can't be read: {error}.",
                    hint="Name another image with --base.",
                ) from error
    found = scan.contents(image.config.container.variables.get("PATH", DEFAULT_PATH))
    write_cache(_cache_file(cache, digest), _to_json(found), key=_FORMAT)
    return found


def recall_base(digest: str, cache: Path) -> Any:  # noqa: ANN401  as json.loads
    """Return the remembered contents of the base image with that *digest*, as JSON; ``None`` without any."""
    return read_cache(_cache_file(cache, digest), key=_FORMAT)


def remember_base(digest: str, document: Any, cache: Path) -> None:  # noqa: ANN401  as json.loads
    """Remember what :func:`recall_base` has given elsewhere, unless it is malformed."""
    with suppress(LookupError, TypeError, ValueError, AttributeError):
        write_cache(_cache_file(cache, digest), _to_json(_from_json(document)), key=_FORMAT)


def base_key(digest: str) -> str:
    """Return the key of a base image's contents in a cache that others share."""
    return f"base {_FORMAT} {digest}"


def _cache_file(cache: Path, digest: str) -> Path:
    return cache_path(cache / LAYERS, "base contents", digest)


@dataclass(frozen=True)
class _Link:
    """The target of a symbolic link."""

    target: str


class _Scan:
    """The state of the file system after some layers, as far as it matters."""

    def __init__(self) -> None:
        # By path: a folder, a link, or what matters of a file.
        self._known: dict[str, Any] = {}

    def add_layer(self, members: Iterable[tuple[tarfile.TarFile, tarfile.TarInfo]]) -> None:
        upper: dict[str, Any] = {}
        removed: list[tuple[str, bool]] = []
        for archive, member in members:
            path = posixpath.normpath(member.name).lstrip("/")
            folder, _, name = path.rpartition("/")
            if path == "." or path.startswith("../"):
                continue
            if name == _OPAQUE:
                removed.append((folder, True))
            elif name.startswith(_WHITEOUT):
                removed.append((posixpath.join(folder, name.removeprefix(_WHITEOUT)), False))
            else:
                upper[path] = self._read(path, member, archive, upper)
            if len(upper) + len(removed) + len(self._known) > _MOST_PATHS:
                raise OverflowError(f"the image has more than {_MOST_PATHS} paths")
        # Whiteouts are for the layers below, wherever they stand in their own.
        for path, keep in removed:
            self._remove(path, keep=keep)
        for path, found in upper.items():
            if isinstance(self._known.get(path), FolderAttributes) and not isinstance(
                found, FolderAttributes
            ):
                self._remove(path)
            self._known[path] = found
        for folder in _folders_above(upper):
            # Without an entry of its own.
            self._known.setdefault(folder, FolderAttributes())

    def _read(
        self, path: str, member: tarfile.TarInfo, archive: tarfile.TarFile, upper: Mapping[str, Any]
    ) -> Any:  # noqa: ANN401  as known
        """Return the facts of an entry that matter."""
        if member.issym():
            return _Link(member.linkname)
        if member.isdir():
            return FolderAttributes(member.mode & 0o7777, member.uid, member.gid)
        if member.islnk():
            original = posixpath.normpath(member.linkname).lstrip("/")
            return upper.get(original, self._known.get(original, True))
        return _of_file(path, member, archive) if member.isfile() else True

    def _remove(self, path: str, *, keep: bool = False) -> None:
        below = f"{path}/" if path else ""
        for found in [name for name in self._known if name.startswith(below) or (name == path and not keep)]:
            del self._known[found]

    def contents(self, search_path: str) -> BaseContents:
        known = self._known
        tree = FolderTree(
            {path: found for path, found in known.items() if isinstance(found, FolderAttributes)},
            {path: found.target for path, found in known.items() if isinstance(found, _Link)},
            _by_folder(
                path for path, found in known.items() if not isinstance(found, (FolderAttributes, _Link))
            ),
        )
        accounts = {path: known[tree.resolve(path)] for path in _ACCOUNTS if tree.resolve(path) in known}
        for path, account in accounts.items():
            if not isinstance(account, AccountFile):
                raise BaseImageError(
                    f"/{path} of the base image is no file of accounts, or larger than 1 MB.",
                    hint="Name another image with --base.",
                )
        place = tree.resolve_parent(_ENVIRONMENT)
        found = BaseContents(
            glibc=next((v for p, v in known.items() if _LIBC.fullmatch(p) and isinstance(v, tuple)), None),
            accounts=accounts,
            present=frozenset(
                {
                    *(path for path in _PRESENT if tree.resolve(path) in known),
                    *([_ENVIRONMENT] if place in known else []),
                }
            ),
            tree=tree,
            linker={
                path: content
                for path, content in known.items()
                if _LINKER.fullmatch(path) and isinstance(content, bytes)
            },
        )
        for folder in search_path.split(":"):
            executable = posixpath.join(folder, "python3")
            target = tree.resolve(executable.lstrip("/"))
            if folder.startswith("/") and target in known and target not in tree.folders:
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
        known = self._known[target]
        if isinstance(known, str) and known:
            return known
        prefix, minor = _prefix(target), posixpath.basename(target)
        library = re.compile(rf"{re.escape(prefix)}/?lib/(?:[^/]+/)?lib{re.escape(minor)}\.so\.1\.0")
        found = (v for p, v in self._known.items() if isinstance(v, str) and v and library.fullmatch(p))
        return next(found, "")

    def _venv(self, target: str) -> dict[str, bytes]:
        folder = posixpath.join(_prefix(target), "lib", posixpath.basename(target), "venv") + "/"
        return {
            path.removeprefix(folder): content
            for path, content in self._known.items()
            if path.startswith(folder) and isinstance(content, bytes)
        }


def _of_file(path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> Any:  # noqa: ANN401  as known
    """Return the facts of a file that matter."""
    if posixpath.basename(path) in _ACCOUNT_NAMES and member.size <= _MOST_ACCOUNTS:
        return AccountFile(_read(archive, member), member.mode & 0o7777, member.uid, member.gid)
    if member.size <= _MOST_SCRIPT and (_VENV.fullmatch(path) or _LINKER.fullmatch(path)):
        return _read(archive, member)
    if member.size <= _MOST_BINARY:
        if match := _PYTHON.fullmatch(path):
            return _python_version(_read(archive, member), match[1] or match[2])
        if _LIBC.fullmatch(path):
            found = _GLIBC_VERSION.search(_read(archive, member))
            return (int(found[1]), int(found[2])) if found else True
    return True


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        found.setdefault(folder, []).append(name)
    return found


def _folders_above(paths: Iterable[str]) -> set[str]:
    """Return the folders above *paths*.

    >>> sorted(_folders_above(["opt/env/bin", "opt/x"]))
    ['opt', 'opt/env']
    """
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return found


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


def _to_json(contents: BaseContents) -> dict[str, Any]:
    found = asdict(replace(contents, tree=FolderTree()))
    found["venv"] = {path: _encoded(content) for path, content in contents.venv.items()}
    found["linker"] = {path: _encoded(content) for path, content in contents.linker.items()}
    found["accounts"] = {
        path: {**asdict(file), "content": _encoded(file.content)} for path, file in contents.accounts.items()
    }
    found["present"] = sorted(contents.present)
    found["tree"] = {
        "folders": {path: astuple(attributes) for path, attributes in contents.tree.folders.items()},
        "links": dict(contents.tree.links),
        "files": {folder: list(names) for folder, names in contents.tree.files.items()},
    }
    return found


def _from_json(known: Mapping[str, Any]) -> BaseContents:
    glibc, tree = known["glibc"], known["tree"]
    folders = {path: FolderAttributes(*values) for path, values in tree["folders"].items()}
    return BaseContents(
        **{
            **known,
            "glibc": None if glibc is None else (glibc[0], glibc[1]),
            "venv": {path: base64.b64decode(text) for path, text in known["venv"].items()},
            "linker": {path: base64.b64decode(text) for path, text in known["linker"].items()},
            "accounts": {
                path: AccountFile(**{**file, "content": base64.b64decode(file["content"])})
                for path, file in known["accounts"].items()
            },
            "present": frozenset(known["present"]),
            "tree": FolderTree(folders, tree["links"], tree["files"]),
        }
    )


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
