# Paths stay strings where there may be thousands of them.
# ruff: noqa: PTH118, PTH120
"""The files of one path of loose code, and their paths in the image."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imagesync.core.stat_cache import MODE, MODIFIED, SIZE, Stat, digest_files, stat_of
from imagesync.errors import UsageError, WheelError
from imagesync.plan.loose_code import CodeFile, CodePath
from imagesync.store.layout import CODE
from imagesync.wheels.secret_files import in_secret_folder, looks_secret
from imagesync.wheels.sources.source_tree import is_skipped, source_stats

SECRET = "it looks like a secret"  # noqa: S105
OUTSIDE = "it is a link that leads out of the folder, or to what doesn't go in"
_ENVIRONMENT = "it belongs to a virtual environment"
_OURS = "it was written by imagesync"
_NOTEBOOK = "it is a notebook, which can't be imported"
_METADATA = "it is the metadata of a distribution, or bytecode"
_UNUSUAL = "it is no regular file, or its name isn't text"

Excluded = Callable[[str], str]
"""Returns the reason to leave out a file, by its path in the image; empty for none."""


@dataclass(frozen=True)
class Tree:
    """A path of the setting ``code`` on disk.

    Parameters
    ----------
    path
        The path of the setting.
    folder
        The folder of the files.
    image_prefix
        The prefix of their paths in the image's folder of code: empty, or a package's name and ``/``.
    stats
        The status of each candidate by path relative to *folder*.
    links
        The target of each link among them, relative to *folder*.
    left_out
        The other files, with the reasons.
    began
        A time before the files were listed, in nanoseconds since the epoch.
    """

    path: Path
    folder: Path
    image_prefix: str
    stats: Mapping[str, Stat]
    links: Mapping[str, str]
    left_out: Mapping[str, str]
    began: int


def read_tree(path: Path, *, store: Path | None = None) -> Tree:
    """Return the candidates for the image at *path*, a folder or a single module.

    Parameters
    ----------
    path
        The path of the setting.
    store
        The root of the store, which is left out.

    Raises
    ------
    UsageError
        *path* doesn't exist, looks like a secret, or has nothing that can be imported.
    WheelError
        A folder can't be read.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  links stay, because their names are those of the modules
    began = time.time_ns()
    if path.is_file():
        if not path.name.endswith((".py", ".so")):
            raise UsageError(
                f"The code {path} is no module.", hint="Name a folder, or a file that ends with .py or .so."
            )
        _refuse_secret(path)
        # A link in the setting is followed: its name is that of the module.
        return Tree(path, path.parent, "", {path.name: stat_of(path.stat())}, {}, {}, began)
    _refuse_folder(path)
    found = source_stats(path, cache=None if store is None else store / CODE)
    left_out = _left_out(path, found, store)
    stats = {name: value for name, value in found.items() if name not in left_out}
    links = _resolve_links(path, stats, left_out)
    stats = {name: value for name, value in stats.items() if name not in left_out}
    return Tree(path, path, f"{path.name}/" if _is_package(path) else "", stats, links, left_out, began)


def _is_package(folder: Path) -> bool:
    """Return True if *folder* is a package, so that its parent is the folder for ``sys.path``."""
    return folder.name.isidentifier() and (folder / "__init__.py").is_file()


def _refuse_secret(path: Path) -> None:
    # Names below a folder are judged one by one.
    for place in (path, path.resolve()):
        is_secret = (
            in_secret_folder(place.as_posix())
            if place.is_dir()
            else looks_secret(place.as_posix(), partial(_read, place))
        )
        if is_secret:
            raise UsageError(
                f"{path} looks like a secret, and everybody who has the image could read it.",
                hint="Remove it from the setting 'code' or the option --code.",
            )


def _refuse_folder(path: Path) -> None:
    if not path.is_dir():
        raise UsageError(
            f"The code {path} doesn't exist.", hint="Correct the setting 'code', or the option --code."
        )
    if path in (Path(path.anchor), Path("~").expanduser()):
        raise UsageError(
            f"{path} as a whole can't go into an image.",
            hint="Name the folders or modules in it that you import.",
        )
    _refuse_secret(path)
    if _is_package(path) and _is_package(path.parent):
        package = path.parent
        while _is_package(package.parent):
            package = package.parent
        raise UsageError(
            f"{path} is a part of the package {package}, and can't be imported without it.",
            hint=f"Name the whole package: --code {package}",
        )


def _left_out(folder: Path, stats: Mapping[str, Stat], store: Path | None) -> dict[str, str]:
    """Return the files to leave out regardless of git, with the reasons."""
    folders: dict[str, str] = {}
    for name in stats:
        place, _, last = name.rpartition("/")
        if last == "pyvenv.cfg":
            folders[place] = _ENVIRONMENT
        elif place.endswith("conda-meta"):
            folders[place.removesuffix("conda-meta").rstrip("/")] = _ENVIRONMENT
        elif last == ".imagesync.json":  # a build context that was rendered there
            folders[place] = _OURS
    if store is not None and store.absolute().is_relative_to(folder):
        folders[store.absolute().relative_to(folder).as_posix()] = _OURS
    known: dict[str, str] = {}
    reasons = {}
    for name, value in stats.items():
        place = name.rpartition("/")[0]
        if place not in known:
            known[place] = _reason_of_folder(place, folders)
        if reason := known[place] or _reason(folder, name, value[MODE]):
            reasons[name] = reason
    return reasons


def _reason_of_folder(place: str, folders: Mapping[str, str]) -> str:
    parts = place.split("/")
    for above in ("", *("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))):
        if above in folders:
            return folders[above]
    return _METADATA if any(is_skipped(part, top=False) for part in parts) else ""


def _reason(folder: Path, name: str, mode: int) -> str:
    if looks_secret(name, lambda: _read(folder / name)):
        return SECRET
    # Even if git tracks them: bytecode isn't made for the image, and metadata would be a second distribution.
    # Names of build outputs can be packages here.
    if is_skipped(name.rpartition("/")[2], top=False):
        return _METADATA
    if name.endswith(".ipynb"):
        return _NOTEBOOK
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) or not name.isprintable():
        return _UNUSUAL
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise WheelError(
            f"The file {path} can't be read: {error.strerror}.",
            hint="Make it readable for yourself, or remove it.",
        ) from error


def _resolve_links(folder: Path, stats: Mapping[str, Stat], left_out: dict[str, str]) -> dict[str, str]:
    """Return the targets of links; links to files that the image doesn't get are added to *left_out*."""
    real = os.path.realpath(folder)
    links = {}
    for name, value in stats.items():
        if not stat.S_ISLNK(value[MODE]):
            continue
        link = os.path.join(os.fspath(folder), name)
        target = os.path.relpath(os.path.realpath(link), real).replace(os.sep, "/")
        to_file = target in stats and stat.S_ISREG(stats[target][MODE])
        if to_file or _leads_to_folder(name, target, stats):
            links[name] = target
        else:
            left_out[name] = OUTSIDE
    return links


def _leads_to_folder(name: str, target: str, stats: Mapping[str, Stat]) -> bool:
    # A link to a folder that contains it would be a loop.
    return not name.startswith(target + "/") and any(path.startswith(target + "/") for path in stats)


def collect_files(tree: Tree, *, excluded: Excluded, cache: Path | None) -> CodePath:
    """Return the files of *tree* that the image gets.

    *excluded* returns the reason to leave out a further file. Digests are cached in *cache*.

    Raises
    ------
    WheelError
        A file can't be read.
    """
    left_out = dict(tree.left_out)
    stats = {}
    for name, value in tree.stats.items():
        if reason := excluded(tree.image_prefix + name):
            left_out[name] = reason
        else:
            stats[name] = value
    for name in [name for name, target in tree.links.items() if name in stats and not _kept(target, stats)]:
        del stats[name]
        left_out[name] = OUTSIDE
    files = tuple(_file(tree, name, value, stats) for name, value in sorted(stats.items()))
    # The cache is keyed by folder; a single module is read each time.
    digests = cache if tree.path == tree.folder else None
    content = digest_files(tree.folder, stats, began=tree.began, cache=digests)
    digest = hashlib.sha256(f"{tree.image_prefix}\0{content}".encode()).hexdigest()
    return CodePath(
        path=str(tree.path),
        root=str(tree.folder.parent if tree.image_prefix else tree.folder),
        files=files,
        digest=f"sha256:{digest}",
        left_out=tuple(sorted(left_out.items())),
    )


def _kept(target: str, stats: Mapping[str, Stat]) -> bool:
    return target in stats or any(path.startswith(target + "/") for path in stats)


def _file(tree: Tree, name: str, value: Stat, stats: Mapping[str, Stat]) -> CodeFile:
    file = CodeFile(
        path=tree.image_prefix + name,
        source=os.path.join(os.fspath(tree.folder), name),
        size=value[SIZE],
        modified=value[MODIFIED],
        executable=bool(value[MODE] & stat.S_IXUSR),
    )
    target = tree.links.get(name)
    if target is None:
        return file
    if target not in stats:
        link = os.path.relpath(target, os.path.dirname(name) or ".").replace(os.sep, "/")
        return file._replace(size=0, modified=0, link=link, executable=False)
    linked = _file(tree, target, stats[target], stats)
    return linked._replace(path=file.path)
