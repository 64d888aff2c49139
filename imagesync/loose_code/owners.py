# Paths stay strings: a Path costs more than the file system calls for the few that matter.
# ruff: noqa: PTH110, PTH112, PTH118
"""The owners of modules: distributions that provide them. Nothing is imported, and little is read."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from imagesync.core.files import read_bytes
from imagesync.plan.checks.modules import modules
from imagesync.plan.loose_code import MODULE_SUFFIXES
from imagesync.scan.environment import Environment, Package

NO_MODULES = frozenset(
    {
        "benchmarks", "build", "conf", "conftest", "dist", "doc", "docs", "dodo", "env", "examples",
        "fabfile", "noxfile", "setup", "target", "tasks", "test", "tests", "toxfile", "venv", "wheelhouse",
    }
)  # fmt: skip
"""Names beside the modules of a project that none of them imports."""


@dataclass(frozen=True)
class ModuleOwner:
    """The distribution that provides a top-level module.

    Parameters
    ----------
    package
        The distribution.
    path
        The file or folder of the module.
    """

    package: Package
    path: str

    @property
    def regular(self) -> bool:
        """Return True if it is a module or a regular package, and not a namespace package."""
        return not os.path.isdir(self.path) or os.path.exists(os.path.join(self.path, "__init__.py"))


@dataclass(frozen=True)
class Owners:
    """The modules that distributions provide, looked up on demand.

    Parameters
    ----------
    environment
        The scanned environment.
    names
        The canonical names of the distributions that count.
    """

    environment: Environment
    names: Container[str]
    _editable: dict[str, ModuleOwner] = field(default_factory=dict, init=False, repr=False)
    _installed: dict[str, dict[str, str]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for package in self._packages():
            if package.source.editable:
                for name, path in _editable_modules(package).items():
                    self._editable.setdefault(name, ModuleOwner(package, path))
            elif package.location not in self._installed:
                self._installed[package.location] = _modules_in(package.location)

    def find(self, module: str) -> ModuleOwner | None:
        """Return the owner of the top-level *module*, or ``None``."""
        if module in self._editable:
            return self._editable[module]
        for location, found in self._installed.items():
            if module not in found:
                continue
            pattern = re.compile(rb'(?m)^"?%s[/.,]' % re.escape(os.fsencode(module)))
            for package in self._packages():
                if package.location == location and _lists(package, pattern):
                    return ModuleOwner(package, found[module])
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
    """Return the modules in *folder* by name, with their paths; packages precede modules as on import."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((not entry.is_dir(), entry.name) for entry in entries)
    except OSError:
        return {}
    named: dict[str, str] = {}
    for is_file, name in found:
        if name.startswith((".", "__")) or (is_file and not name.endswith(MODULE_SUFFIXES)):
            continue
        module = name.partition(".")[0] if is_file else name
        if module.isidentifier():
            named.setdefault(module, os.path.join(folder, name))
    return named


def modules_in(folder: str) -> dict[str, str]:
    """Return the modules and regular packages in *folder* by name, with their paths."""
    return {
        name: path
        for name, path in _modules_in(folder).items()
        if not os.path.isdir(path) or os.path.exists(os.path.join(path, "__init__.py"))
    }


def _editable_modules(package: Package) -> dict[str, str]:
    """Return the top-level modules of an editable *package* by name, with their paths.

    A false positive would leave a module out of the image, a false negative has it there twice. So a single
    module beside the project's packages only counts if the metadata name it, or it has the project's name.
    """
    declared = os.path.exists(os.path.join(package.metadata_path, "top_level.txt"))
    found: dict[str, str] = {}
    for path, file in modules(package).items():
        top, inside, rest = path.partition("/")
        name = top.removesuffix(".py")
        if inside:
            found.setdefault(name, file.removesuffix(os.path.join("", *rest.split("/"))).rstrip(os.sep))
        elif declared or name == package.name.replace("-", "_"):
            found.setdefault(name, file)
    return found
