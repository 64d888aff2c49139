# Paths stay strings: a Path costs more than asking the file system for the few that matter.
# ruff: noqa: PTH110, PTH112, PTH118, PTH119
"""Which modules the distributions of an environment provide; nothing is imported, and little is read."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from imagesync.code.code import MODULE_SUFFIXES
from imagesync.scan.editables import is_inside, mapped_folders, source_folder
from imagesync.scan.environment import Environment, Package
from imagesync.scan.metadata import read_bytes
from imagesync.scan.record import read_record

NO_MODULES = frozenset(
    {
        "benchmarks", "build", "conf", "conftest", "dist", "doc", "docs", "dodo", "env", "examples",
        "fabfile", "noxfile", "setup", "target", "tasks", "test", "tests", "toxfile", "venv", "wheelhouse",
    }
)  # fmt: skip
"""What usually lies beside a project's modules, and is imported by nothing of it."""


@dataclass(frozen=True)
class Provided:
    """A top-level module that a distribution provides.

    Parameters
    ----------
    package
        The distribution.
    path
        The module's file or folder.
    """

    package: Package
    path: str

    @property
    def regular(self) -> bool:
        """Return whether it is a module or a package of one place; a namespace package can have several."""
        return not os.path.isdir(self.path) or os.path.exists(os.path.join(self.path, "__init__.py"))


@dataclass(frozen=True)
class Owners:
    """The modules that distributions provide, found as they are asked for.

    Parameters
    ----------
    names
        Which distributions count, by canonical name.
    """

    environment: Environment
    names: Container[str]
    _editable: dict[str, Provided] = field(default_factory=dict, init=False, repr=False)
    _installed: dict[str, dict[str, str]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for package in self._packages():
            if package.source.editable:
                for path in editable_modules(package, self.environment.path):
                    self._editable.setdefault(_module_name(path), Provided(package, path))
            elif package.location not in self._installed:
                self._installed[package.location] = _modules_in(package.location)

    def find(self, module: str) -> Provided | None:
        """Return who provides the top-level *module*, or ``None``."""
        if module in self._editable:
            return self._editable[module]
        for location, modules in self._installed.items():
            if module not in modules:
                continue
            pattern = re.compile(rb'(?m)^"?%s[/.,]' % re.escape(os.fsencode(module)))
            for package in self._packages():
                if package.location == location and _lists(package, pattern):
                    return Provided(package, modules[module])
        return None

    def _packages(self) -> Iterator[Package]:
        return (package for package in self.environment.packages if package.name in self.names)


def _lists(package: Package, pattern: re.Pattern[bytes]) -> bool:
    if not os.path.isdir(package.metadata_path):
        return False
    for name in ("RECORD", "top_level.txt"):
        try:
            content = read_bytes(os.path.join(package.metadata_path, name))
        except OSError:
            continue
        if pattern.search(content if name == "RECORD" else content.replace(b"\n", b",\n")):
            return True
    return False


def _modules_in(folder: str) -> dict[str, str]:
    """Return the modules that lie in *folder*: name to path, a package before a module as on import."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((not entry.is_dir(), entry.name) for entry in entries)
    except OSError:
        return {}
    modules: dict[str, str] = {}
    for is_file, name in found:
        if name.startswith((".", "__")) or (is_file and not name.endswith(MODULE_SUFFIXES)):
            continue
        module = name.partition(".")[0] if is_file else name
        if module.isidentifier():
            modules.setdefault(module, os.path.join(folder, name))
    return modules


def modules_in(folder: str) -> dict[str, str]:
    """Return the modules and regular packages in *folder*, name to path; a namespace has to be asked for."""
    return {
        name: path
        for name, path in _modules_in(folder).items()
        if not os.path.isdir(path) or os.path.exists(os.path.join(path, "__init__.py"))
    }


def _module_name(path: str) -> str:
    return os.path.basename(path).partition(".")[0]


def editable_modules(package: Package, path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of the top-level modules that an editable *package* provides.

    Parameters
    ----------
    path
        The environment's ``sys.path``.
    """
    source = source_folder(package.source)
    if source is None:
        return ()
    listed = _listed(package)
    named = listed or {package.name.replace("-", "_"), package.name.replace("-", "")}
    modules: dict[str, str] = {_module_name(found): found for found in _mapped(package)}
    roots = [folder for folder in path if is_inside(folder, source)]
    for root in dict.fromkeys((*roots, source, os.path.join(source, "src"), os.path.join(source, "python"))):
        for name, found in _modules_in(root).items():
            if name in named or (not listed and root in roots and _is_of_project(name, found)):
                modules.setdefault(name, found)
    return tuple(modules.values())


def _listed(package: Package) -> frozenset[str]:
    """Return the modules that the metadata names; of the common backends only setuptools writes them."""
    try:
        listed = read_bytes(os.path.join(package.metadata_path, "top_level.txt")).decode("utf-8", "replace")
    except OSError:
        return frozenset()
    return frozenset(listed.split())


def _is_of_project(name: str, path: str) -> bool:
    """Return whether a module that lies in a project's folder on ``sys.path`` is most likely in its wheel.

    A wrong yes would leave a module out, a wrong no ships it twice: so packages are, lone modules aren't.
    """
    return name not in NO_MODULES and os.path.exists(os.path.join(path, "__init__.py"))


def _mapped(package: Package) -> Iterator[str]:
    """Yield the modules that an import hook of setuptools knows."""
    if not package.has_record:
        return
    for name, _, _ in read_record(package.metadata_path):
        if name.startswith("__editable__") and name.endswith("_finder.py"):
            for found in mapped_folders(os.path.join(package.location, name)):
                yield found if os.path.exists(found) else f"{found}.py"
