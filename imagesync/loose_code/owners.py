# Paths stay strings: a Path costs more than asking the file system for the few that matter.
# ruff: noqa: PTH110, PTH112, PTH118
"""Which modules the distributions of an environment provide; nothing is imported, and little is read."""

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
                for name, path in editable_modules(package).items():
                    self._editable.setdefault(name, Provided(package, path))
            elif package.location not in self._installed:
                self._installed[package.location] = _modules_in(package.location)

    def find(self, module: str) -> Provided | None:
        """Return who provides the top-level *module*, or ``None``."""
        if module in self._editable:
            return self._editable[module]
        for location, found in self._installed.items():
            if module not in found:
                continue
            pattern = re.compile(rb'(?m)^"?%s[/.,]' % re.escape(os.fsencode(module)))
            for package in self._packages():
                if package.location == location and _lists(package, pattern):
                    return Provided(package, found[module])
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
    named: dict[str, str] = {}
    for is_file, name in found:
        if name.startswith((".", "__")) or (is_file and not name.endswith(MODULE_SUFFIXES)):
            continue
        module = name.partition(".")[0] if is_file else name
        if module.isidentifier():
            named.setdefault(module, os.path.join(folder, name))
    return named


def modules_in(folder: str) -> dict[str, str]:
    """Return the modules and regular packages in *folder*, name to path; a namespace has to be asked for."""
    return {
        name: path
        for name, path in _modules_in(folder).items()
        if not os.path.isdir(path) or os.path.exists(os.path.join(path, "__init__.py"))
    }


def editable_modules(package: Package) -> dict[str, str]:
    """Return the top-level modules that an editable *package* most likely has in its wheel: name to path.

    A wrong yes would leave a module out of the image, a wrong no ships it twice. So a lone module that lies
    beside the project's packages counts only where the metadata name it, or it has the project's name.
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
