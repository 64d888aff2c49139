"""Imports of packages that would be left out of the image, by packages and code that don't require them.

A package that imports ``pkg_resources`` without requiring setuptools works wherever setuptools happens to be.
Nothing is imported. The sources of a package are searched again when its RECORD has changed, or what differs
from it; those of an editable package when one of them has changed.
"""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.files import read_bytes
from imagesync.core.progress import Progress, SilentProgress, slow_task
from imagesync.core.stat_cache import TICK, state_of
from imagesync.plan.checks.imported_extensions import imported_by_call
from imagesync.plan.checks.modules import modules
from imagesync.scan.distributions.metadata import read_record
from imagesync.scan.environment import Environment, Package
from imagesync.scan.modifications.modification import Modifications

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.scan.modifications.modification import Modification

_FORMAT = 4
_MOST_BYTES = 2 << 20
_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
# Where code for builds and tests is, which nobody runs in an image.
_NOT_RUN = re.compile(
    r"(^|/)(tests?|testing|_vendor|vendor|distutils|Distutils|mypyc|setup\.py|conftest\.py|setup_helpers\.py"
    r"|[^/]*(setuptools|distutils|dist_utils|bdist)[^/]*)(/|$)"
)
# Behind "from", behind "import" in a statement, or in a call: what doesn't match needn't be parsed.
_MENTION = (
    rb"from[ \t]+%(name)b\b|import[ \t](?:\\\r?\n|[^\n]){0,500}?\b%(name)b\b"
    rb"|import(?:_module|__)\s*\(\s*[\"']%(name)b\b"
)
_IMPORT_CALL = re.compile(rb"import_module|__import__")
# What eggs have beside an extension module imports pkg_resources; wheels of eggs are without it.
_LOADER = b"__bootstrap__()"
# In place of RECORD, of what pip installed with setup.py.
_LISTING = "installed-files.txt"
YOUR_CODE = "your code"
"""In place of a package's name, for loose code."""


class ImportSearch(Protocol):
    """Finds who imports packages."""

    def __call__(self, packages: Collection[Package]) -> Mapping[NormalizedName, Sequence[str]]:
        """Return for each of *packages* that is imported the names of the packages that import it."""


def no_imports(packages: Collection[Package]) -> Mapping[NormalizedName, Sequence[str]]:
    """Return nothing: nobody imports *packages*."""
    return {}


def import_search(
    environment: Environment,
    *,
    code: Sequence[Path] = (),
    modifications: Callable[[], Modifications] = Modifications,
    cache: Path | None,
    progress: Progress | None = None,
) -> ImportSearch:
    """Return a search in the packages of *environment* and in the loose code in *code*.

    Parameters
    ----------
    modifications
        Returns the differences between the installed files and their records.
    cache
        The folder that keeps what unchanged packages import; ``None`` for none.
    progress
        Counts the searched packages, if that takes long.
    """
    return partial(
        _importers,
        environment=environment,
        code=code,
        modifications=modifications,
        cache=cache,
        progress=progress or SilentProgress(),
    )


def _importers(
    packages: Collection[Package],
    *,
    environment: Environment,
    code: Sequence[Path],
    modifications: Callable[[], Modifications],
    cache: Path | None,
    progress: Progress,
) -> Mapping[NormalizedName, Sequence[str]]:
    owners: dict[str, NormalizedName] = {}
    for package in packages:
        for name in provided_modules(package, environment.python.minor):
            owners.setdefault(name, package.name)
    if not owners:
        return {}
    found: dict[NormalizedName, list[str]] = {}
    changed = modifications()
    total = len(environment.packages)
    with slow_task(progress, "Searching for imports", total=total, unit="packages") as task:
        for package, names in _imports_of_packages(environment, owners, changed, cache):
            for owner in dict.fromkeys(owners[name] for name in names):
                if owner != package.name:
                    found.setdefault(owner, []).append(package.name)
            task.advance(1)
    for owner in dict.fromkeys(owners[name] for name in sorted(_search(_sources(_code_files(code)), owners))):
        found.setdefault(owner, []).append(YOUR_CODE)
    return found


def provided_modules(package: Package, minor: str) -> frozenset[str]:
    """Return the names that import something of *package*: ``docker``, or ``google.protobuf``.

    Parameters
    ----------
    minor
        The feature version of the interpreter. From 3.12 on setuptools provides distutils.
    """
    paths = {path for path, _, _ in read_record(package.metadata_path) if not path.startswith(("../", "/"))}
    found = set()
    for path in paths:
        top, _, rest = path.partition("/")
        if not path.endswith((".py", ".so", ".pyd")) or top.endswith((".dist-info", ".data")):
            continue
        if not rest:
            found.add(top.partition(".")[0])
        elif f"{top}/__init__.py" in paths:
            found.add(top)
        else:
            found.add(f"{top}.{rest.partition('/')[0].partition('.')[0]}")
    if package.name == "setuptools" and tuple(map(int, minor.split("."))) >= (3, 12):
        found.add("distutils")
    return frozenset(name for name in found if not name.startswith("_"))


def _imports_of_packages(
    environment: Environment, names: Collection[str], modifications: Modifications, cache: Path | None
) -> Iterator[tuple[Package, frozenset[str]]]:
    """Yield each package with those of *names* that it imports."""
    key = [_FORMAT, sorted(names)]
    entry = None if cache is None else cache_path(cache, "imports", environment.python.prefix)
    known = read_cache(entry, key=key) if entry is not None else None
    known = known if isinstance(known, dict) else {}
    now: dict[str, list[object]] = {}
    changed = {each.name: each for each in modifications.packages if each.manager == "pip"}
    changed |= modifications.provided
    for package in environment.packages:
        sources: Iterable[bytes]
        if package.source.editable or package.is_egg:
            files = list(_editable_files(package) if package.source.editable else _egg_files(package))
            state = state_of(files, settled_before=time.time_ns() - TICK)
            sources = (source for source in _sources(files) if not package.is_egg or _LOADER not in source)
        elif package.has_record:
            # Installers write another file each time.
            modification = changed.get(package.name)
            state = state_of([f"{package.metadata_path}/{_record_name(package)}"])
            if state and modification is not None:
                state = f"{state} {modification.digest}"
            sources = _sources(_recorded_files(package, modification))
        else:
            continue
        remembered = known.get(package.metadata_path)
        if state and isinstance(remembered, list) and remembered[0] == state:
            found = frozenset(remembered[1])
        else:
            found = _search(sources, names)
        yield package, found
        if state:
            now[package.metadata_path] = [state, sorted(found)]
    if entry is not None and now != known:
        write_cache(entry, now, key=key)


def _record_name(package: Package) -> str:
    return _LISTING if package.metadata_path.endswith(".egg-info") else "RECORD"


def _listed_files(package: Package) -> Iterator[tuple[str, int]]:
    """Yield the path of each recorded file, relative to its folder on ``sys.path``, and its size if known."""
    if _record_name(package) != _LISTING:
        yield from ((path, size or 0) for path, _, size in read_record(package.metadata_path))
        return
    try:
        text = read_bytes(f"{package.metadata_path}/{_LISTING}").decode("utf-8", "surrogateescape")
    except OSError:
        return
    folder = os.path.basename(package.metadata_path)  # noqa: PTH119
    yield from ((os.path.normpath(f"{folder}/{line}").replace(os.sep, "/"), 0) for line in text.splitlines())


def _recorded_files(package: Package, modification: Modification | None) -> Iterator[str]:
    added = [] if modification is None else [(path, 0) for path in modification.added]
    for path, size in (*_listed_files(package), *added):
        is_inside = path.endswith(".py") and not path.startswith(("../", "/"))
        if is_inside and size <= _MOST_BYTES and not _NOT_RUN.search(path):
            yield f"{package.location}/{path}"


def _editable_files(package: Package) -> Iterator[str]:
    for path, file in modules(package).items():
        if path.endswith("__init__.py"):
            yield from _files_below(Path(file).parent)
        elif file.endswith(".py"):
            yield file


def _code_files(code: Iterable[Path]) -> Iterator[str]:
    for path in code:
        if path.is_dir():
            yield from _files_below(path)
        elif path.suffix == ".py":
            yield str(path)


def _files_below(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        inside = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        # Neither an environment in the folder nor its tests.
        folders[:] = [name for name in inside if not Path(parent, name, "pyvenv.cfg").exists()]
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118
            if name.endswith(".py") and not _NOT_RUN.search(
                os.path.relpath(path, folder).replace(os.sep, "/")
            ):
                yield path


def _egg_files(package: Package) -> list[str]:
    """Return the modules of an egg, or the egg itself if it is an archive."""
    egg = package.location
    return list(_files_below(Path(egg))) if os.path.isdir(egg) else [egg]  # noqa: PTH112


def _sources(files: Iterable[str]) -> Iterator[bytes]:
    """Yield the content of each of *files* that can be read; of an egg's archive that of each module."""
    for file in files:
        try:
            if file.endswith(".egg"):
                yield from _archived_sources(file)
            else:
                yield read_bytes(file)
        except OSError:  # noqa: PERF203 - a call a file would cost more
            continue


def _archived_sources(archive: str) -> Iterator[bytes]:
    import zipfile

    from imagesync.core.archive_members import ZIP_DAMAGE

    try:
        with zipfile.ZipFile(archive) as egg:
            for member in egg.infolist():
                if (
                    member.filename.endswith(".py")
                    and member.file_size <= _MOST_BYTES
                    and not _NOT_RUN.search(member.filename)
                ):
                    yield egg.read(member)
    except ZIP_DAMAGE:
        return  # the scan says so


def _search(sources: Iterable[bytes], names: Collection[str]) -> frozenset[str]:
    """Return those of *names* that one of *sources* imports and can't do without."""
    wanted = [tuple(part.encode() for part in name.split(".")) for name in names]
    found: set[str] = set()
    for source in sources:
        if any(_mentions(source, parts) for parts in wanted):
            found.update(required_imports(source, names))
    return frozenset(found)


def _mentions(source: bytes, parts: Sequence[bytes]) -> bool:
    """Return True if *source* may import the module whose name has these *parts*."""
    if not all(part in source for part in parts):
        return False
    return re.search(_MENTION % {b"name": re.escape(parts[0])}, source) is not None


def required_imports(source: bytes, names: Collection[str]) -> frozenset[str]:
    r"""Return those of *names* that a module imports, on import or later, and can't do without.

    >>> sorted(required_imports(b"import a\ntry:\n import b\nexcept ImportError:\n b = 0", ["a", "b"]))
    ['a']
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    # Expressions are most of a tree, and only calls can import.
    children = ast.iter_child_nodes if _IMPORT_CALL.search(source) else _statements
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        for module in _imported(node):
            found.update(name for name in names if _is_within(module, name))
        waiting += _required_parts(node, children)
    return frozenset(found)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name] if (name := imported_by_call(node)) else []


def _is_within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements directly below *node*, and its handlers and cases, which have some."""
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        below = getattr(node, name, None)
        if isinstance(below, list):
            yield from below


def _required_parts(node: ast.AST, children: Callable[[ast.AST], Iterable[ast.AST]]) -> Iterable[ast.AST]:
    """Return those of the *children* of a statement whose imports must succeed."""
    if isinstance(node, ast.Try) and any(map(_catches_import_error, node.handlers)):
        return [*node.orelse, *node.finalbody]
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        if "TYPE_CHECKING" in test or "__main__" in test:
            return node.orelse
    return children(node)


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(each).rpartition(".")[2] in _IMPORT_ERRORS for each in caught)
