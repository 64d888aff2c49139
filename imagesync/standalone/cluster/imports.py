"""Reload changed modules in a process, unless other code still refers to the old ones."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.machinery
import sys
import types
from collections.abc import Iterable
from typing import Any

# Where common wrappers of functions have what they wrap.
_WRAPPERS: dict[type, str] = {
    functools.partial: "func",
    types.MethodType: "__func__",
    type(functools.lru_cache(lambda: None)): "__wrapped__",
}
_NAMED = 3  # modules that a reason names; of the others it has the number


def refresh(modules: list[str], local: list[str], forced: bool = False) -> dict[str, str]:
    """Forget modules that an import would now find elsewhere, so that their next use imports them again.

    What other code refers to stays, each package by itself. Return why, by package.

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
        return {}
    uses = _uses({*stale, *local})
    held = {}
    forgotten: set[str] = set()
    for package in sorted(stale):
        names, holders = _with_users(package, uses, local)
        reason = _reason(names, holders)
        if reason:
            held[package] = reason
        if forced or not reason:
            forgotten |= names
    for name in forgotten:
        module = sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        if parent in sys.modules and getattr(sys.modules[parent], child, None) is module:
            delattr(sys.modules[parent], child)
    importlib.invalidate_caches()
    return held


def _with_users(package: str, uses: dict[str, set[str]], local: list[str]) -> tuple[set[str], set[str]]:
    """Return the loaded modules of a package with all local code that uses them, and their other users."""
    names = {name for name in list(sys.modules) if _within(name, [package])}
    while True:
        holders = {name for name, used in uses.items() if name not in names and used & names}
        more = {name for name in holders if _within(name, local)}
        if not more:
            return names, holders
        names |= more


def _reason(names: set[str], holders: set[str]) -> str:
    """Return why modules can't be forgotten; empty if they can."""
    reasons = []
    if holders:
        named = ", ".join(sorted(holders)[:_NAMED])
        others = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
        reasons.append(f"used by {named}{others}")
    if binary := sorted(name for name in names if not _is_python(name)):
        reasons.append(f"{binary[0]} is an extension module")
    if objects := _objects(names):
        reasons.append(f"objects of its classes are in memory: {objects}")
    return "; ".join(reasons)


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


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _is_python(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return not isinstance(getattr(spec, "loader", None), importlib.machinery.ExtensionFileLoader)


def _uses(packages: set[str]) -> dict[str, set[str]]:
    """Return the modules of some packages that each module refers to.

    What counts is what a module itself makes: functions, classes, and objects of its classes. It shares
    everything else with others, such as ``annotations`` of ``__future__``.
    """
    roots = {package.partition(".")[0] for package in packages}
    found: dict[str, set[str]] = {}
    for other, module in list(sys.modules.items()):
        if not issubclass(type(module), types.ModuleType):
            continue
        for key, value in list(vars(module).items()):
            if key.startswith("__") or sys.modules.get(f"{other}.{key}") is value:
                continue  # a parent has its children
            origin = _origin(value)
            if origin is not None and origin.partition(".")[0] in roots and _within(origin, packages):
                found.setdefault(other, set()).add(origin)
    return found


def _origin(value: object) -> str | None:
    """Return the module that a value is or that defines it: a function, a class, or an object's class."""
    # Not isinstance, nor getattr of the value: some objects run code then.
    kind = type(value)
    while kind in _WRAPPERS:
        value = getattr(value, _WRAPPERS[kind])
        kind = type(value)
    if issubclass(kind, types.ModuleType):
        origin = vars(value).get("__name__")
    elif issubclass(kind, (type, types.FunctionType)):
        origin = getattr(value, "__module__", None)
    else:
        origin = getattr(kind, "__module__", None)
    return origin if isinstance(origin, str) else None


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
