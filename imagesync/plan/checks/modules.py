# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH112, PTH113, PTH118, PTH119, PTH208
"""The module files of a distribution, as its wheel has them, and modules named as the standard library's."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from imagesync.core.files import read_bytes
from imagesync.plan.checks.sources import local_path
from imagesync.plan.install_commands import uninstall_command
from imagesync.scan.distributions.editables import path_lines
from imagesync.scan.distributions.metadata import read_record
from imagesync.scan.environment import Environment, Finding, Package, Severity

_MODULE_SUFFIXES = (".py", ".so", ".pyd")
# Usual folders of modules, beside the top of a project.
_SOURCE_FOLDERS = ("src", "python", "lib")
_NAMESPACE_LEVELS = 3
ModuleOwners = Mapping[str, list[tuple[Package, str]]]
"""Path of a module file in site-packages to its packages, each with what identifies the content."""
# The modules that each feature version after 3.8 removed and added.
_REMOVED = {
    (3, 9): "dummy_threading",
    (3, 10): "formatter parser symbol",
    (3, 11): "binhex",
    (3, 12): "asynchat asyncore distutils imp smtpd",
    (3, 13): "aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes "
    "sndhdr spwd sunau telnetlib uu xdrlib",
}
_ADDED = {
    (3, 9): "graphlib zoneinfo",
    (3, 11): "tomllib",
    (3, 14): "annotationlib compression",
}


def modules(package: Package) -> dict[str, str]:
    """Return the module files of *package*, by path relative to site-packages.

    The value identifies a file's content. For an installed package the files are those of its RECORD, and the
    value is the recorded digest. For an editable package, whose files are in its source tree, they are the
    ``__init__.py`` of its packages and its single modules, and the value is the file's path; the wheel may
    have more. Without a RECORD the result is empty.
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
    for folder in (root, *(os.path.join(root, name) for name in _SOURCE_FOLDERS)):
        for name in sorted(names):
            yield from _module_files(folder, name, _NAMESPACE_LEVELS)
    for folder in _source_folders(package, root):
        for entry in sorted(_listed(folder)):
            yield from _module_files(folder, entry.removesuffix(".py"), _NAMESPACE_LEVELS)


def _declared(package: Package) -> set[str]:
    """Return the names in ``top_level.txt``, a file that setuptools writes."""
    try:
        text = read_bytes(os.path.join(package.metadata_path, "top_level.txt")).decode("utf-8", "replace")
    except OSError:
        return set()
    return {line.strip() for line in text.splitlines() if line.strip()}


def _source_folders(package: Package, root: str) -> Iterator[str]:
    """Yield the folders that the package's ``.pth`` file adds to ``sys.path``, except the project's top.

    The top of a project also has tests and tools, which are in no wheel.
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


def _module_files(folder: str, name: str, levels: int) -> Iterator[tuple[str, str]]:
    """Yield the file of the module or package *name* in *folder*; for a namespace package its portions."""
    path_of_name = os.path.join(folder, *name.split("/"))
    for path in (f"{name}/__init__.py", f"{name}.py"):
        file = os.path.join(folder, *path.split("/"))
        if os.path.isfile(file):
            yield path, file
            return
    if levels and "." not in os.path.basename(path_of_name) and os.path.isdir(path_of_name):
        for entry in sorted(_listed(path_of_name)):
            if entry.removesuffix(".py").isidentifier():
                yield from _module_files(folder, f"{name}/{entry.removesuffix('.py')}", levels - 1)


def standard_library(minor: str) -> frozenset[str]:
    """Return the public top-level modules of the standard library of Python *minor*, such as ``3.11``.

    Modules that are newer than the running interpreter and the lists above are missing.

    >>> [sorted({"tomllib", "imp"} & standard_library(minor)) for minor in ("3.10", "3.11", "3.12")]
    [['imp'], ['imp', 'tomllib'], ['tomllib']]
    """
    major, feature = (int(part) for part in minor.split("."))
    version = (major, feature)
    names = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    for since, removed in _REMOVED.items():
        names = names - set(removed.split()) if version >= since else names | set(removed.split())
    for since, added in _ADDED.items():
        names = names | set(added.split()) if version >= since else names - set(added.split())
    return frozenset(names)


def standard_library_conflicts(owners: ModuleOwners, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each package with a module that has the name of one in the standard library."""
    standard = standard_library(environment.python.minor)
    found: defaultdict[str, set[str]] = defaultdict(set)
    packages: dict[str, Package] = {}
    for path, claims in owners.items():
        name = module_name(path)
        if name in standard:
            for package, _ in claims:
                packages[str(package.name)] = package
                found[str(package.name)].add(name)
    for owner, shadowed in sorted(found.items()):
        package = packages[owner]
        yield Finding(
            Severity.WARNING,
            "standard-library-clash",
            f"{owner} {package.version} has {named(sorted(shadowed))}, and so has the "
            "standard library, which Python imports from first: here and in the image the package's own "
            "isn't used, except by programs that lie beside it.",
            package=owner,
            hint=f"Rename the module in {owner}."
            if package.source.editable
            else f"Uninstall it, if nothing needs it: {uninstall_command(environment, [owner])}",
        )


def module_name(path: str) -> str:
    """Return the name of the top-level module that *path* is part of.

    >>> module_name("json/__init__.py"), module_name("json.py"), module_name("_x.cpython-311.so")
    ('json', 'json', '_x')
    """
    top, inside, _ = path.partition("/")
    return top if inside else top.partition(".")[0]


def named(modules: Sequence[str]) -> str:
    """Return *modules* as a phrase for a message."""
    return f"the module{'s' if len(modules) > 1 else ''} {', '.join(modules)}"
