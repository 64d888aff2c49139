"""Files that an editable package finds from its own path, outside of what its wheel holds.

``Path(__file__).parents[1] / "data"`` is in the project's folder while the package is an editable
installation, and in site-packages in the image.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from imagesync.core.files import read_bytes
from imagesync.core.text import first_of
from imagesync.plan.checks.modules import modules
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Finding, Package, Severity

_SHOWN = 3
_MOST_FILES = 5_000
# Run by tools in the project's folder, and not by who imports the package.
_TOOLS = frozenset({"conftest.py", "noxfile.py", "setup.py", "tests", "test"})
# Methods and functions that give the same file or folder.
_SAME = frozenset(
    {"resolve", "absolute", "expanduser", "abspath", "realpath", "normpath", "Path", "fspath", "str"}
)


class PathOutside(NamedTuple):
    """An expression that leads from a module out of its package.

    Parameters
    ----------
    file
        The path of the module.
    line
        Its line.
    source
        The expression, as it is written.
    """

    file: str
    line: int
    source: str


def paths_outside(plan: Plan) -> Iterator[Finding]:
    """Yield a finding for each editable package of *plan* whose modules look for files outside of it."""
    for package in plan.packages:
        installed = package.installed
        if installed is None or not installed.source.editable:
            continue
        if found := tuple(_paths_of(installed)):
            yield _finding(installed, found)


def _finding(package: Package, found: tuple[PathOutside, ...]) -> Finding:
    places = [f"{Path(path.file).name}:{path.line} ({path.source})" for path in found]
    return Finding(
        Severity.WARNING,
        "path-outside-package",
        f"{package.name} {package.version} looks for files in its project's folder, and in the image "
        f"finds site-packages there: {first_of(places, _SHOWN)}.",
        path=found[0].file,
        package=package.name,
        hint="Put the files into the package and read them with importlib.resources; or take their folder "
        "from an environment variable, and add them by the setting `files`, or mount them.",
    )


def _paths_of(package: Package) -> Iterator[PathOutside]:
    count = 0
    for path, file in sorted(modules(package).items()):
        top = PurePosixPath(path)
        if top.name != "__init__.py":
            yield from paths_outside_module(file, depth=len(top.parts))
            continue
        for folder, folders, names in os.walk(os.path.dirname(file)):  # noqa: PTH120
            folders[:] = sorted(set(folders) - _TOOLS - {"__pycache__"})
            inside = Path(folder).relative_to(Path(file).parent).parts
            for name in sorted(set(names) - _TOOLS):
                count += name.endswith(".py")
                if name.endswith(".py") and count <= _MOST_FILES:
                    depth = len(top.parts) + len(inside)
                    yield from paths_outside_module(os.path.join(folder, name), depth=depth)  # noqa: PTH118


def paths_outside_module(file: str, *, depth: int) -> Iterator[PathOutside]:
    """Yield the expressions in the module *file* that lead out of its top-level package.

    Parameters
    ----------
    file
        The path of the module.
    depth
        How many parts the path of the module has below site-packages: 2 for ``package/module.py``.
    """
    try:
        content = read_bytes(file)
        if b"__file__" not in content:
            return
        tree = ast.parse(content)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    text = content.decode("utf-8", "replace")
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if _is_search_path(node):
            inner.update(ast.walk(node))
        if node in inner or not isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
            continue
        levels = _levels(node)
        if levels is None:
            continue
        inner.update(ast.walk(node))
        if levels >= depth:
            source = ast.get_source_segment(text, node) or "__file__"
            yield PathOutside(file, node.lineno, " ".join(source.split()))


def _is_search_path(node: ast.AST) -> bool:
    """Return True if *node* changes ``sys.path``, which finds modules and no files."""
    function = node.func if isinstance(node, ast.Call) else None
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) == "sys.path"


def _levels(node: ast.AST) -> int | None:
    """Return the number of parts that *node* cuts off ``__file__``; ``None`` if it is no path of that kind.

    >>> _levels(ast.parse("Path(__file__).resolve().parents[1]", mode="eval").body)
    2
    >>> _levels(ast.parse("os.path.join(os.path.dirname(__file__), '..', 'data')", mode="eval").body)
    2
    """
    if isinstance(node, ast.Name):
        return 0 if node.id == "__file__" else None
    if isinstance(node, ast.Attribute):
        below = _levels(node.value)
        return below + 1 if below is not None and node.attr == "parent" else None
    if isinstance(node, ast.Subscript):
        return _levels_of_parents(node)
    if isinstance(node, ast.Call):
        return _levels_of_call(node)
    return None


def _levels_of_parents(node: ast.Subscript) -> int | None:
    parents, index = node.value, node.slice
    if not (isinstance(parents, ast.Attribute) and parents.attr == "parents"):
        return None
    below = _levels(parents.value)
    if below is None or not isinstance(index, ast.Constant) or not isinstance(index.value, int):
        return None
    return below + index.value + 1


def _levels_of_call(node: ast.Call) -> int | None:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if isinstance(function, ast.Attribute) and not node.args and name in _SAME:
        return _levels(function.value)
    if not node.args or (below := _levels(node.args[0])) is None:
        return None
    if name == "dirname":
        return below + 1
    if name == "join":
        ups = [argument for argument in node.args[1:] if isinstance(argument, ast.Constant)]
        return below + sum(str(argument.value).split("/").count("..") for argument in ups)
    return below if name in _SAME else None
