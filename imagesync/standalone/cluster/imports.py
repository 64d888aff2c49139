"""Reload changed modules in a process, unless other code still refers to the old ones."""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

_PLAIN = (type(None), bool, int, float, complex, str, bytes, tuple, type(Ellipsis), type(NotImplemented))


def refresh(modules: list[str], local: list[str], forced: bool = False) -> dict[str, Any]:
    """Forget modules that an import would now find elsewhere, so that their next use imports them again.

    Parameters
    ----------
    modules
        The names of packages and modules that have changed.
    local
        The names of all local code, which may be forgotten as well.
    forced
        Whether modules are also forgotten that other code refers to.
    """
    stale = {name for name in modules if _is_stale(name)}
    if not stale:
        return {"state": "not imported", "held": []}
    names = _loaded(stale)
    held = []
    while True:
        holders = set(_holders(names))
        more = {name for name in holders if _within(name, local)}
        held = sorted(holders - more)
        if not more:
            break
        names |= more
    held = [f"{name} uses it" for name in held]
    held += [f"{name} is an extension module" for name in sorted(names) if not _is_python(name)]
    if objects := _objects(names):
        held.append(f"{objects} objects of its classes are in memory")
    if held and not forced:
        return {"state": "held", "held": held}
    for name in names:
        module = sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        if parent in sys.modules and getattr(sys.modules[parent], child, None) is module:
            delattr(sys.modules[parent], child)
    importlib.invalidate_caches()
    return {"state": "forgotten", "held": held}


def _is_stale(name: str) -> bool:
    """Return True if a module is imported, and an import would now find another one."""
    if name not in sys.modules:
        return False
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    try:
        found = importlib.machinery.PathFinder.find_spec(name, path)
    except (ImportError, ValueError):
        return False
    origin = getattr(getattr(sys.modules[name], "__spec__", None), "origin", None)
    return origin is not None and (found is None or found.origin != origin)


def _loaded(stale: Iterable[str]) -> set[str]:
    return {name for name in list(sys.modules) if _within(name, stale)}


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _is_python(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return not isinstance(getattr(spec, "loader", None), importlib.machinery.ExtensionFileLoader)


def _holders(names: set[str]) -> Iterator[str]:
    """Yield the other modules that refer to a module, function, class or object of these."""
    modules = [sys.modules[name] for name in names]
    parts = {id(module) for module in modules}
    parts |= {id(value) for module in modules for _, value in _names(module) if _is_object(value)}
    for other, module in list(sys.modules.items()):
        if other in names or not isinstance(module, types.ModuleType):
            continue
        for key, value in _names(module):
            is_part = sys.modules.get(f"{other}.{key}") is value  # a parent has its children
            if not is_part and (id(value) in parts or _origin(value) in names):
                yield other
                break


def _names(module: types.ModuleType) -> list[tuple[str, object]]:
    """Return the names and values of a module, without special ones such as ``__builtins__``."""
    return [(name, value) for name, value in list(vars(module).items()) if not name.startswith("__")]


def _origin(value: object) -> str | None:
    """Return the module that defines a function or class, or an object's class."""
    # Not isinstance, nor getattr of the value: some objects run code then.
    kind = value if issubclass(type(value), (type, types.FunctionType)) else type(value)
    origin = getattr(kind, "__module__", None)
    return origin if isinstance(origin, str) else None


def _is_object(value: object) -> bool:
    """Return True for a value that is neither a module, function or class, nor of a common immutable type."""
    apart = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
    return not issubclass(type(value), apart) and type(value) not in _PLAIN


def _objects(names: set[str]) -> int:
    """Return the number of objects of the modules' classes that the modules themselves don't refer to."""
    classes = _classes(names)
    if not classes or not _instances(classes, set()):
        return 0
    # Unreachable objects may still wait for a collection, which takes a while.
    gc.collect()
    return _instances(classes, _reachable(names))


def _classes(names: set[str]) -> set[int]:
    """Return the ids of the classes that modules define, nested ones included."""
    found: set[int] = set()
    waiting = [value for name in names for value in vars(sys.modules[name]).values()]
    while waiting:
        value = waiting.pop()
        if issubclass(type(value), type) and _origin(value) in names and id(value) not in found:
            found.add(id(value))
            waiting += vars(value).values()
    return found


def _instances(classes: set[int], held: set[int]) -> int:
    return sum(id(type(one)) in classes and id(one) not in held for one in gc.get_objects())


def _reachable(names: set[str]) -> set[int]:
    """Return the ids of the modules' own objects that they refer to, directly or not."""
    found: set[int] = set()
    waiting: list[Any] = [vars(sys.modules[name]) for name in names]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if id(one) in found or issubclass(kind, types.ModuleType):
            continue
        if issubclass(kind, (type, types.FunctionType)) and _origin(one) not in names:
            continue
        found.add(id(one))
        waiting += gc.get_referents(one)
    return found
