"""The extension modules that importing a distribution's top level loads, told from its sources.

Nothing is imported: statements that run on import are followed from module to module within the distribution.
What is imported in functions, or may fail without the import failing, is left aside.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

_EXTENSION = ".so"
_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException", "OSError"}
# A module of a distribution may import many thousands.
_MOST = 3000

ReadSource = Callable[[str], bytes]


def loaded_extensions(files: Iterable[str], read: ReadSource) -> frozenset[str]:
    """Return those of *files* that are extension modules and are loaded with the distribution's top level.

    Parameters
    ----------
    files
        The files of the distribution, relative to site-packages, with ``/``.
    read
        Returns the content of one of them.

    Raises
    ------
    OSError
        As *read* does.
    """
    modules = {name: path for path in sorted(files) if (name := _module_name(path))}
    tops = (name for name in modules if not any(parent in modules for parent in _parents(name)))
    # Below a folder without modules lie plugins of other programs, as those of Qt.
    waiting = [name for name in tops if "." not in name or modules[name].endswith(".py")]
    seen: set[str] = set()
    while waiting and len(seen) < _MOST:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += [parent for parent in _parents(name) if parent in modules]
        path = modules[name]
        if path.endswith(".py"):
            is_package = path.endswith("/__init__.py")
            waiting += _within(name, _imports(read(path), name, is_package=is_package), modules)
    return frozenset(path for name in seen if (path := modules[name]).endswith(_EXTENSION))


def _module_name(path: str) -> str:
    """Return the dotted name of the module in *path*; empty for other files.

    >>> _module_name("cv2/cv2.abi3.so"), _module_name("cv2/__init__.py"), _module_name("x.libs/libz.so.1")
    ('cv2.cv2', 'cv2', '')
    """
    parts = PurePosixPath(path).parts
    if not path.endswith((".py", _EXTENSION)) or any("." in part or part == ".." for part in parts[:-1]):
        return ""
    stem = parts[-1].partition(".")[0]
    names = parts[:-1] if stem == "__init__" else (*parts[:-1], stem)
    return ".".join(names) if all(name.isidentifier() for name in names) else ""


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _within(name: str, imported: Iterable[str], modules: Mapping[str, str]) -> Iterator[str]:
    """Yield the *modules* that are *imported* by the module *name*."""
    for target in imported:
        # A package that puts its own folder on sys.path imports its extension by a bare name, as cv2 does.
        beside = f"{name}.{target}"
        if beside in modules and (target == name or target not in modules):
            yield beside
        elif target in modules:
            yield target


def _imports(source: bytes, name: str, *, is_package: bool) -> Iterator[str]:
    """Yield the absolute names that a module imports when it is imported itself."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    package = name if is_package else name.rpartition(".")[0]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in _executed(tree.body, functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        else:
            yield from filter(None, map(imported_by_call, ast.walk(node)))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join(filter(None, (*above, node.module or "")))


def imported_by_call(node: ast.AST) -> str:
    """Return ``name`` of the calls ``import_module("name")`` and ``__import__("name")``; empty for others."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return ""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    name = node.args[0].value
    return name if called in ("import_module", "__import__") and isinstance(name, str) else ""


def _executed(
    body: Iterable[ast.stmt], functions: dict[str, ast.FunctionDef], called: frozenset[str] = frozenset()
) -> Iterator[ast.AST]:
    """Yield the statements that run with *body*: those of functions only where they are called there."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If):
            yield from _executed(_taken(node), functions, called)
        elif isinstance(node, ast.Try):
            parts = [node.orelse, node.finalbody] if _may_fail(node) else [node.body, node.orelse]
            for part in parts:
                yield from _executed(part, functions, called)
        elif isinstance(node, (ast.With, ast.For, ast.While, ast.ClassDef)):
            yield from _executed(node.body, functions, called)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node
            name = getattr(node.value.func, "id", "")
            if name in functions and name not in called:
                yield from _executed(functions[name].body, functions, called | {name})
        else:
            yield node


def _taken(node: ast.If) -> list[ast.stmt]:
    """Return the statements of an ``if`` that may run on Linux."""
    text = ast.unparse(node.test)
    if text in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"):
        return node.orelse
    if text in ("sys.platform == 'win32'", "sys.platform == 'darwin'", "os.name == 'nt'"):
        return node.orelse
    return [*node.body, *node.orelse]


def _may_fail(node: ast.Try) -> bool:
    """Return True if a failing import in *node* is caught, and not raised again."""
    for handler in node.handlers:
        caught = ast.unparse(handler.type) if handler.type is not None else "BaseException"
        if any(name in caught for name in _IMPORT_ERRORS):
            return not any(isinstance(each, ast.Raise) for each in ast.walk(handler))
    return False
