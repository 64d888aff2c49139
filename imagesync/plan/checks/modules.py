# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH112, PTH113, PTH118, PTH119, PTH208
"""Modules: the files that a distribution makes importable, as its wheel has them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from imagesync.core.files import read_bytes
from imagesync.plan.checks.sources import local_path
from imagesync.scan.distributions.editables import path_lines
from imagesync.scan.distributions.record import read_record
from imagesync.scan.environment import Package

_MODULE_SUFFIXES = (".py", ".so", ".pyd")
# Where a project keeps its modules, if it doesn't at its top.
_SOURCE_FOLDERS = ("src", "python", "lib")
_NAMESPACE_LEVELS = 3


def modules(package: Package) -> dict[str, str]:
    """Return the module files of *package*, relative to site-packages, and what tells their content.

    An installed package's are those of its RECORD, with the digest recorded there. Of an editable
    one, whose files lie in its source tree, they are the ``__init__.py`` of its packages and its single
    modules, with the file's path; those of its wheel may be more. Nothing where nothing says.
    """
    if package.source.editable:
        return dict(_editable_modules(package))
    if not package.has_record:
        return {}
    return {
        path: digest
        for path, digest, _ in read_record(package.metadata_path)
        if path.endswith(_MODULE_SUFFIXES) and not path.startswith(("../", "/"))
    }


def _editable_modules(package: Package) -> Iterator[tuple[str, str]]:
    root = local_path(package.source)
    if root is None:
        return
    names = _declared(package) or {package.name.replace("-", "_"), package.name.replace("-", "/")}
    for place in (root, *(os.path.join(root, name) for name in _SOURCE_FOLDERS)):
        for name in sorted(names):
            yield from _below(place, name, _NAMESPACE_LEVELS)
    for place in _source_folders(package, root):
        for entry in sorted(_listed(place)):
            yield from _below(place, entry.removesuffix(".py"), _NAMESPACE_LEVELS)


def _declared(package: Package) -> set[str]:
    """Return the names in ``top_level.txt``, which setuptools writes."""
    try:
        text = read_bytes(os.path.join(package.metadata_path, "top_level.txt")).decode("utf-8", "replace")
    except OSError:
        return set()
    return {line.strip() for line in text.splitlines() if line.strip()}


def _source_folders(package: Package, root: str) -> Iterator[str]:
    """Yield the folders that the package's own ``.pth`` puts on ``sys.path``, but for the project's top.

    Beside the package there are tests and tools at the top of a project, which no wheel has.
    """
    for path, _, _ in read_record(package.metadata_path):
        if path.endswith(".pth") and "/" not in path:
            for line in path_lines(package.location, path):
                if os.path.normpath(line.folder) != os.path.normpath(root):
                    yield line.folder


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _below(place: str, name: str, levels: int) -> Iterator[tuple[str, str]]:
    """Yield the module or package *name* in the folder *place*; of a namespace package its portions."""
    where = os.path.join(place, *name.split("/"))
    for path in (f"{name}/__init__.py", f"{name}.py"):
        file = os.path.join(place, *path.split("/"))
        if os.path.isfile(file):
            yield path, file
            return
    if levels and "." not in os.path.basename(where) and os.path.isdir(where):
        for entry in sorted(_listed(where)):
            if entry.removesuffix(".py").isidentifier():
                yield from _below(place, f"{name}/{entry.removesuffix('.py')}", levels - 1)
